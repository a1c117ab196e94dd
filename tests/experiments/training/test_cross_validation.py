"""Cross-validation from the command to the registry, on a tiny model that learns nothing much."""

import io
import json
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest

from experiments.commands.export import main as export
from experiments.commands.train import main
from experiments.config.resolve import resolve
from experiments.preparation.data_check import check_data
from experiments.training.folds import divide, spread
from experiments.training.trainer import Trainer
from mrcnn.data.splits import check_splits
from mrcnn.errors import InputError

FOLDS = 2


def runs_of(store, order="ASC"):
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return store.search_runs(experiments, order_by=[f"attributes.start_time {order}"])


def within(store, parent):
    return [run for run in runs_of(store) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


@pytest.fixture(scope="module")
def validated(store, phantom_folder, tiny_arguments):
    """The run of a cross-validation begun as `mlflow run` begins it, and what was printed."""
    store.create_experiment("of_the_command")
    begun = store.create_run(store.get_experiment_by_name("of_the_command").experiment_id)
    with pytest.MonkeyPatch.context() as patch:
        printed = io.StringIO()
        patch.setattr(sys, "stdout", printed)
        patch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
        assert main(tiny_arguments(dataset=phantom_folder, seed=1, folds=FOLDS, tta="true")) == 0
    return store.get_run(begun.info.run_id), printed.getvalue()


@pytest.fixture(scope="module")
def folds(store, validated):
    return within(store, validated[0])


def read(store, run, name):
    return json.loads(Path(store.download_artifacts(run.info.run_id, name)).read_text())


@pytest.mark.slow
def test_each_fold_is_a_run_within_the_one_of_the_command(store, validated, folds):
    parent, _ = validated
    assert parent.info.status == "FINISHED"
    assert [run.data.tags["fold"] for run in folds] == ["1", "2"]
    for run in folds:
        assert run.info.status == "FINISHED"
        assert run.info.experiment_id == parent.info.experiment_id
        assert {"task": "thyroid", "seed": "1"}.items() <= run.data.tags.items()
        assert (run.data.params["data.folds"], run.data.params["train.epochs"]) == ("2", "1")
        assert {"train/loss", "val/dice", "held_out/dice", "confidence", "best_epoch"} <= run.data.metrics.keys()
        kept = {file.path for file in store.list_artifacts(run.info.run_id, "checkpoints")}
        assert "checkpoints/best.keras" in kept


@pytest.mark.slow
def test_every_image_outside_the_test_share_is_held_out_once_and_seen_by_nobody_there(store, validated, folds):
    whole = read(store, validated[0], "splits.json")
    assert set(whole) == {"fold_1", "fold_2", "test"}
    files = [entry["file_name"] for entries in whole.values() for entry in entries]
    assert len(files) == len(set(files)) == 20
    patients = [{entry["patient_id"] for entry in entries} for entries in whole.values()]
    assert len(set.union(*patients)) == sum(map(len, patients))
    for number, run in enumerate(folds, start=1):
        own = read(store, run, "splits.json")
        assert own["held_out"] == whole[f"fold_{number}"]
        seen = {entry["patient_id"] for split in ("train", "val") for entry in own[split]}
        assert seen and not seen & patients[number - 1] and not seen & patients[2]


def test_the_test_share_is_that_of_a_single_training(phantom_folder, tiny_arguments):
    words = tiny_arguments(dataset=phantom_folder, seed=1)
    single, folded = (check_data(resolve([*words, *more]).config) for more in ((), ("--folds", "2")))
    np.testing.assert_array_equal(single.splits["test"], folded.splits["test"])
    assert single.whole.subset(single.splits["test"]).digest == folded.whole.subset(folded.splits["test"]).digest


@pytest.mark.slow
def test_scores_of_all_folds_are_pooled_at_the_threshold_of_each(store, validated, folds):
    metrics = validated[0].data.metrics
    counts = [sum(run.data.metrics[f"held_out/{name}"] for run in folds) for name in ("images", "detections", "misses")]
    assert [metrics[f"out_of_fold/{name}"] for name in ("images", "detections", "misses")] == counts
    dice = [run.data.metrics["held_out/dice"] for run in folds]
    assert metrics["out_of_fold/dice_mean"] == pytest.approx(np.mean(dice))
    assert metrics["out_of_fold/dice_std"] == pytest.approx(np.std(dice, ddof=1))
    assert metrics["out_of_fold/dice_lo"] <= metrics["out_of_fold/dice"] <= metrics["out_of_fold/dice_hi"]
    history = store.get_metric_history(validated[0].info.run_id, "fold/dice")
    assert [(point.step, point.value) for point in history] == [(1, dice[0]), (2, dice[1])]


@pytest.mark.slow
def test_the_ensemble_is_tested_once_registered_and_predicts(store, validated, folds):
    parent, printed = validated
    assert len(store.get_metric_history(parent.info.run_id, "test/dice")) == 1
    (version,) = store.search_model_versions("name='mrcnn-ultrasound'")
    assert version.run_id == parent.info.run_id
    assert {"champion", "challenger"} & set(store.get_registered_model("mrcnn-ultrasound").aliases)
    model = mlflow.pyfunc.load_model("models:/mrcnn-ultrasound/1")
    (found,) = model.predict(np.zeros((40, 50), np.uint8))
    assert (found["width"], found["height"]) == (50, 40)
    for words in ("Fold 1 of 2", "Fold 2 of 2", "each predicted by the model that never saw it", "±", "Test split"):
        assert words in printed


@pytest.mark.slow
def test_each_fold_and_the_whole_leave_a_report(store, validated, folds):
    for run in (validated[0], *folds):
        page = Path(store.download_artifacts(run.info.run_id, "report.html")).read_text()
        assert f"run {run.info.run_id}" in page
        split = "test" if run is validated[0] else "held out"
        assert f"The {split} split, evaluated once" in page


@pytest.mark.slow
def test_an_ensemble_is_kept_as_one_predictor_and_is_what_its_members_find(
    store, validated, folds, phantom_folder, tmp_path
):
    from mrcnn.data import read_dataset
    from mrcnn.inference.ensemble import flip_detections, flip_image
    from mrcnn.inference.fusion import fuse_detections
    from mrcnn.models import load
    from trackers.packaging.tracked_model import load_tracked_model

    parent, _ = validated
    image = read_dataset(phantom_folder)[0].image
    members = [load_tracked_model(run.info.run_id, task="thyroid", folder=tmp_path / run.info.run_id) for run in folds]
    assert all(member.flips == ("horizontal",) for member in members)
    answers = []
    for view in ((), ("horizontal",)):
        for member in members:
            (seen,) = load(member.file).detect([flip_image(image, view)])
            answers.append(flip_detections(seen, view))
    expected = fuse_detections(answers, max_detections=10)
    for spec in ("models:/mrcnn-ultrasound/1", parent.info.run_id, f"runs:/{parent.info.run_id}"):
        kept = load_tracked_model(spec, task="thyroid", folder=tmp_path / "kept" / spec[-4:].replace("/", "-"))
        assert len(kept.files) == FOLDS
        assert kept.confidence == parent.data.metrics["confidence"]
        (found,) = kept.predictor().detect([image])
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)


@pytest.mark.slow
def test_an_ensemble_is_neither_exported_nor_trained_on(store, validated, tiny_arguments, phantom_folder, capsys):
    asked = "models:/mrcnn-ultrasound/1"
    assert export([asked, "--to", "onnx"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"model={asked}: is an ensemble of 2 networks; expected a single one" in error
    assert main(tiny_arguments(dataset=phantom_folder, weights=asked)) == 2
    assert f"weights={asked}: is an ensemble of 2 networks" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fold_that_fails_leaves_the_folds_before_it(
    store, validated, phantom_folder, tiny_arguments, monkeypatch, capsys
):
    from experiments.training.callbacks import Diverged

    build, number = Trainer.build, iter(range(9))

    def second_diverges(self):
        if next(number) == 1:
            raise Diverged("epoch 1, step 1: the loss is nan")
        return build(self)

    monkeypatch.setattr(Trainer, "build", second_diverges)
    assert main(tiny_arguments(dataset=phantom_folder, folds=FOLDS, split="[0.7, 0.3, 0]")) == 1
    assert "the loss is nan" in capsys.readouterr().err
    parent = next(run for run in runs_of(store, "DESC") if "mlflow.parentRunId" not in run.data.tags)
    assert parent.info.status == "FAILED"
    first, second = within(store, parent)
    assert (first.info.status, second.info.status) == ("FINISHED", "FAILED")
    assert "Diverged" in second.data.tags["error"]
    assert "held_out/dice" in first.data.metrics
    # Without a test share nobody is kept out of the folds.
    assert set(read(store, parent, "splits.json")) == {"fold_1", "fold_2", "test"}
    assert read(store, parent, "splits.json")["test"] == []


def test_what_is_wrong_with_the_folds_is_told_before_any_training(store, phantom_folder, tiny_arguments, capsys):
    before = len(runs_of(store))
    assert main(tiny_arguments(dataset=phantom_folder, folds=40)) == 2
    assert "data.folds=40: " in (error := capsys.readouterr().err)
    assert "expected at least 40, one for each of 40 folds" in error
    assert len(runs_of(store)) == before + 1
    assert main(tiny_arguments(dataset=phantom_folder, folds=1)) == 2
    assert "--data.folds=1: expected greater than or equal to 2" in capsys.readouterr().err
    assert main(tiny_arguments(dataset=phantom_folder, tta="true", flip_horizontal=0)) == 2
    assert "evaluate.tta=True: expected augment.flip_horizontal or augment.flip_vertical" in capsys.readouterr().err


def test_a_fold_without_instances_to_learn_is_refused(phantom_folder, tiny_arguments, monkeypatch):
    config = resolve([*tiny_arguments(dataset=phantom_folder), "--folds", "3"]).config
    checked = check_data(config)
    for number, fold in enumerate(divide(checked, config), start=1):
        check_splits(checked.whole, fold.splits, checked.groups)
        assert set(fold.splits) == {"train", "val", "held_out"}, number
    monkeypatch.setattr(
        "experiments.training.folds.splits_without_instances", lambda whole, splits, name: [f"{name}: no instance"]
    )
    with pytest.raises(InputError, match="fold 1: no instance\n  fold 2: no instance\n  fold 3"):
        divide(checked, config)


def test_the_spread_is_over_the_folds_where_a_score_is_defined():
    scores = [{"dice": 0.5, "hd95": 3.0, "images": 4}, {"dice": 0.7, "images": 5}, {"dice": 0.6}]
    assert spread(scores) == {"dice": (pytest.approx(0.6), pytest.approx(0.1))}
