"""A training with several seeds, begun by the command; and its statistics by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.commands.train import main
from experiments.training.seeds import over_seeds


@pytest.fixture(scope="module")
def trained(store, phantom_folder, tiny_arguments):
    """The run of the command and those within it, in their order."""
    assert main(tiny_arguments(dataset=phantom_folder, seed=4, seeds=2)) == 0
    runs = store.search_runs(
        [each.experiment_id for each in store.search_experiments()], order_by=["attributes.start_time ASC"]
    )
    return runs[0], runs[1:]


def split_of(store, run):
    return json.loads(Path(store.download_artifacts(run.info.run_id, "splits.json")).read_text())


@pytest.mark.slow
def test_each_seed_is_a_run_within_on_the_same_split(store, trained):
    parent, children = trained
    assert [run.data.params["seed"] for run in children] == ["4", "5"]
    assert {run.data.params["data.split_seed"] for run in children} == {"4"}
    for run in (parent, *children):
        assert run.info.status == "FINISHED"
        assert split_of(store, run) == split_of(store, parent)
    first, second = (run.data.metrics["train/loss"] for run in children)
    assert first != second


@pytest.mark.slow
def test_what_the_seeds_come_to(trained):
    parent, children = trained
    values = [run.data.metrics["test/mask_ap"] for run in children]
    assert parent.data.metrics["seeds/mask_ap_mean"] == pytest.approx(np.mean(values))
    assert parent.data.metrics["seeds/mask_ap_std"] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.slow
def test_the_best_on_validation_is_registered_and_the_run_stands_for_it(store, trained):
    parent, children = trained
    metric = f"val/{parent.data.params['evaluate.metric']}"
    best = max(children, key=lambda run: max(
        point.value for point in store.get_metric_history(run.info.run_id, metric)))  # fmt: skip
    assert parent.data.tags["best_seed"] == best.data.params["seed"]
    for name in ("test/mask_ap", "test/dice", "confidence"):
        assert parent.data.metrics.get(name) == pytest.approx(best.data.metrics.get(name), abs=1e-6)
    versions = store.search_model_versions("name='mrcnn-ultrasound'")
    assert [version.run_id for version in versions] == [parent.info.run_id]
    assert parent.data.tags["package"].startswith("models:/")


def test_student_by_hand():
    found = over_seeds([{"dice": 0.8}, {"dice": 0.9}, {"dice": 0.7, "other": 1.0}])
    assert found["seeds/dice_mean"] == pytest.approx(0.8)
    assert found["seeds/dice_std"] == pytest.approx(0.1)
    # t of 2 degrees of freedom at 97.5 % is 4.3027.
    assert found["seeds/dice_hi"] - 0.8 == pytest.approx(4.3027 * 0.1 / np.sqrt(3), rel=1e-4)
    assert found["seeds/dice_lo"] == pytest.approx(1.6 - found["seeds/dice_hi"])
    assert not any("other" in name for name in found)


def test_seeds_and_folds_exclude_each_other(phantom_folder, tiny_arguments, capsys):
    assert main(tiny_arguments(dataset=phantom_folder, seeds=2, folds=2)) == 2
    assert "train.seeds=2: expected null with data.folds=2" in capsys.readouterr().err
