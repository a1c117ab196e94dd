"""All models of a task from the command to the comparison, on tiny models that learn nothing much."""

import csv
import json
import os
import signal
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.metrics import accuracy_score, roc_auc_score

from experiments.baselines import main
from experiments.commands.train import main as train
from mrcnn.phantoms import write_dataset
from trackers.checkpoints.initial_weights import run_of

NAMES = {"mask_rcnn", "resunet", "classifier", "cascade_mask_rcnn", "cascade_resunet"}
pytestmark = pytest.mark.slow
OPTIONS = {
    "split": "[0.5, 0.2, 0.3]", "steps_per_epoch": 4, "unet_widths": "[16, 16, 32]", "seed": 3, "tta": "false",
    "validation_loss": "true",
    "min_slices": 1,  # objects that a cascade and its segmenter leave out would differ, as each chooses for itself
}  # fmt: skip


@pytest.fixture(scope="module")
def words(tmp_path_factory, tiny_arguments):
    """Makes the words of a command on few slices of phantoms of heads."""
    folder = write_dataset("lgg", tmp_path_factory.mktemp("heads") / "lgg", images=10, seed=1)
    return lambda **more: tiny_arguments(task="lgg", dataset=folder, **{**OPTIONS, **more})


def runs_of(store, **attributes):
    (experiment,) = [each for each in store.search_experiments() if each.name == "lgg"]
    found = store.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
    return [run for run in found if attributes.items() <= run.data.tags.items()]


@pytest.fixture(scope="module")
def compared(store, words):
    """The runs of the whole command by the name of the model, `train`'s among them as `trained`."""
    assert train(words()) == 0
    assert main([*words(), "--mask-rcnn", "last"]) == 0
    (parent,) = runs_of(store, model="baselines")
    below = {run.data.tags["model"]: run for run in runs_of(store, **{"mlflow.parentRunId": parent.info.run_id})}
    (trained,) = [run for run in runs_of(store, model="mask_rcnn") if "mlflow.parentRunId" not in run.data.tags]
    return {"trained": trained, "baselines": parent, **below}


@pytest.fixture(scope="module")
def artifact(store, compared):
    """Path of an artifact of a model's run."""
    return lambda model, name: Path(store.download_artifacts(compared[model].info.run_id, name))


def table(path):
    return list(csv.DictReader(path.open()))


def test_each_model_has_a_finished_run_below_the_comparison(compared):
    assert compared.keys() == {"trained", "baselines", *NAMES}
    assert {run.info.status for run in compared.values()} == {"FINISHED"}
    assert {run.data.tags["seed"] for run in compared.values()} == {"3"}


def test_split_and_data_are_those_of_mask_rcnns_training(compared, artifact):
    def digests(run):
        return {each.tags[0].value: each.dataset.digest for each in run.inputs.dataset_inputs}

    expected = digests(compared["trained"])
    assert expected.keys() == {"train", "val", "test"}
    splits = json.loads(artifact("trained", "splits.json").read_text())
    for name in ("baselines", *NAMES):
        assert digests(compared[name]) == expected
        assert json.loads(artifact(name, "splits.json").read_text()) == splits


def test_a_given_mask_rcnn_scores_as_when_it_was_trained(compared):
    expected, found = compared["trained"].data.metrics, compared["mask_rcnn"].data.metrics
    for name in ("test/mask_ap50", "test/dice", "test/volume_dice", "test/f1", "confidence"):
        assert found.get(name) == pytest.approx(expected.get(name), abs=1e-6)


def test_the_comparison_holds_what_the_runs_do(compared, artifact):
    rows = table(artifact("baselines", "comparison.csv"))
    assert {row["model"] for row in rows} == NAMES
    for row in rows:
        metrics = compared[row["model"]].data.metrics
        assert float(row["value"]) == pytest.approx(metrics[f"test/{row['measure']}"])
        assert compared["baselines"].data.metrics[f"{row['model']}/{row['measure']}"] == pytest.approx(
            float(row["value"])
        )
    of_classifier = {row["measure"] for row in rows if row["model"] == "classifier"}
    assert of_classifier == {"auc", "accuracy", "sensitivity", "specificity", "brier", "ece"}
    assert artifact("baselines", "comparison.md").read_text().count("|\n") >= 12


def test_the_classifiers_scores_are_those_of_its_table(compared, artifact):
    rows = table(artifact("classifier", "per_case.csv"))
    truth, called = ([int(row[name]) for row in rows] for name in ("positive", "called"))
    probabilities = [float(row["probability"]) for row in rows]
    metrics = compared["classifier"].data.metrics
    assert metrics["test/accuracy"] == pytest.approx(accuracy_score(truth, called))
    assert metrics["test/auc"] == pytest.approx(roc_auc_score(truth, probabilities), abs=1e-3)
    assert metrics["test/auc_lo"] <= metrics["test/auc"] <= metrics["test/auc_hi"]
    cases = table(artifact("resunet", "per_case.csv"))
    assert [case["source"] for case in cases] == [row["source"] for row in rows]
    drawn = {path.name for path in artifact("classifier", "figures").iterdir()}
    assert drawn == {"roc.png", "reliability.png", "labels.png", "augmented.jpg"}


def test_the_cascade_finds_nothing_where_the_classifier_saw_nothing(compared, artifact):
    called = [int(row["called"]) for row in table(artifact("classifier", "per_case.csv"))]
    for segmenter in ("resunet", "mask_rcnn"):
        alone = json.loads(artifact(segmenter, "coco/results.json").read_text())
        behind = json.loads(artifact(f"cascade_{segmenter}", "coco/results.json").read_text())
        let_through = [each for each in alone if called[each["image_id"] - 1]]
        assert [(each["image_id"], each["segmentation"]) for each in behind] == [
            (each["image_id"], each["segmentation"]) for each in let_through
        ]


def test_the_baselines_are_registered_and_answer(compared):
    client = MlflowClient()
    for name in ("unet", "classifier"):
        (version,) = client.search_model_versions(f"name='{name}-mri'")
        assert version.run_id == compared["resunet" if name == "unet" else name].info.run_id
        assert {"champion", "challenger"} & set(client.get_registered_model(f"{name}-mri").aliases)
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    (found,) = mlflow.pyfunc.load_model("models:/unet-mri/1").predict(image, {"confidence": 0.5})
    assert (found["width"], found["height"], found["notice"]) == (50, 40, "Research use only")
    assert all(instance.keys() == {"class", "score", "bbox", "segmentation"} for instance in found["instances"])
    model = mlflow.pyfunc.load_model("models:/classifier-mri/1")
    (answer,) = model.predict(image)
    assert answer.keys() == {"label", "probability", "notice"} and 0 <= answer["probability"] <= 1
    assert model.predict([image, image], {"threshold": 0.0})[1]["label"] == "tumor"
    assert model.predict(image, {"threshold": 1.0})[0]["label"] == "no_tumor"
    with pytest.raises(Exception, match=r"threshold=2\.0: expected a number from 0 to 1"):
        model.predict(image, {"threshold": 2.0})


def test_trained_baselines_leave_a_report(artifact):
    unet, classifier = (artifact(model, "report.html").read_text() for model in ("resunet", "classifier"))
    for page, model in ((unet, "resunet"), (classifier, "classifier")):
        assert f"mrcnn baselines --models {model} --task config.yaml" in page
        assert "Research use only" in page and "image AUC" in page
    assert "No score is recorded" not in classifier and "calibration error" in classifier


def test_the_last_run_of_the_task_is_mask_rcnns(compared):
    assert run_of("last", task="lgg") == compared["trained"].info.run_id


def test_a_mask_rcnn_of_another_split_is_refused(store, compared, words, capsys):
    other = [*words(seed=4), "--models", "resunet", "--mask-rcnn", compared["trained"].info.run_id]
    assert main(other) == 2
    assert "was trained on other images" in capsys.readouterr().err
    assert runs_of(store, model="baselines")[0].info.status == "FAILED"


def test_a_diverging_model_fails_its_run_and_the_comparison(store, words, capsys):
    words = words(learning_rate=1e30, warmup_steps=0, clip_norm="null", optimizer="sgd")
    assert main([*words, "--models", "resunet"]) == 1
    assert "the loss is" in capsys.readouterr().err
    assert {runs_of(store, model=name)[0].info.status for name in ("resunet", "baselines")} == {"FAILED"}


def test_a_stop_leaves_both_runs_killed(store, words, monkeypatch):
    monkeypatch.setattr("experiments.training.trainer.Trainer.fit", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert main([*words(), "--models", "classifier"]) == 143
    assert {runs_of(store, model=name)[0].info.status for name in ("classifier", "baselines")} == {"KILLED"}
