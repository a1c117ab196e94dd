"""The main job from the command to the registry, on a tiny model that learns nothing much."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient

from experiments.cli import main as mrcnn_main
from experiments.commands.train import main

ROOT = Path(__file__).parents[3]


def newest_run(store: MlflowClient):
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return store.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)[0]


@pytest.fixture(scope="module")
def trained(store, phantom_folder, tiny_arguments):
    """The run of a whole job, and what it printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
        printed = io.StringIO()
        patch.setattr(sys, "stdout", printed)
        status = main(tiny_arguments(dataset=phantom_folder, seed=1, epochs=2, validation_loss="true"))
    assert status == 0
    return newest_run(store), printed.getvalue()


@pytest.fixture(scope="module")
def artifact(store, trained):
    """Path of an artifact of that run."""
    return lambda name: Path(store.download_artifacts(trained[0].info.run_id, name))


def test_the_run_is_finished_in_the_tasks_experiment(store, trained):
    run, _ = trained
    assert run.info.status == "FINISHED"
    assert store.get_experiment(run.info.experiment_id).name == "thyroid"
    assert {"task": "thyroid", "modality": "ultrasound", "seed": "1"}.items() <= run.data.tags.items()


def test_parameters_are_resolved(trained, phantom_folder):
    params = trained[0].data.params
    assert params["train.epochs"] == "2"
    assert params["model.channels"] == "1"
    assert params["data.dataset"] == str(phantom_folder)
    assert "auto" not in {value for name, value in params.items() if name.startswith("model.")}


def test_losses_and_validation_are_logged_each_epoch(store, trained):
    names = ("train/loss", "train/head_mask", "train/learning_rate", "val/loss", "val/head_mask", "val/mask_ap50")
    for name in (*names, "val/dice"):
        assert [point.step for point in store.get_metric_history(trained[0].info.run_id, name)] == [1, 2]


def test_the_findings_of_each_test_image_are_kept(artifact):
    found = json.loads(artifact("findings.json").read_text())
    cases = list(csv.DictReader(artifact("per_case.csv").open()))
    assert [entry["source"] for entry in found] == [case["source"] for case in cases]
    assert [len(entry["nodules"]) for entry in found] == [int(case["detections"]) for case in cases]
    assert {(entry["unit"], entry["notice"]) for entry in found} == {("mm", "Research use only")}
    assert artifact("findings.csv").read_text().count("\n") == 1 + sum(len(entry["nodules"]) for entry in found)


def test_test_scores_are_logged_once(store, trained):
    metrics = trained[0].data.metrics
    for name in ("test/mask_ap50", "test/box_ap", "test/dice", "test/recall", "test/froc", "test/detection_rate"):
        assert 0 <= metrics[name] <= 1
    assert len(store.get_metric_history(trained[0].info.run_id, "test/dice")) == 1
    assert 0 <= metrics["confidence"] <= 1


def test_the_data_are_inputs_with_digests(trained):
    inputs = trained[0].inputs.dataset_inputs
    assert {tag.value for each in inputs for tag in each.tags} == {"train", "val", "test"}
    assert len({each.dataset.digest for each in inputs}) == 3


def test_splits_share_no_patient_and_leave_out_no_image(artifact, phantom_folder):
    splits = json.loads(artifact("splits.json").read_text())
    patients = [{entry["patient_id"] for entry in entries} for entries in splits.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    listed = sorted(Path(entry["file_name"]).name for entries in splits.values() for entry in entries)
    assert listed == sorted(path.name for path in (phantom_folder / "images").iterdir())


def test_the_kept_configuration_is_a_task(artifact):
    config = yaml.safe_load(artifact("config.yaml").read_text())
    assert config["train"]["epochs"] == 2
    assert config["model"]["channels"] == 1


def test_coco_files_table_curves_and_pictures_are_kept(artifact):
    truth = json.loads(artifact("coco/ground_truth.json").read_text())
    results = json.loads(artifact("coco/results.json").read_text())
    assert {each["image_id"] for each in results} <= {each["id"] for each in truth["images"]}
    rows = list(csv.DictReader(io.StringIO(artifact("per_case.csv").read_text())))
    assert len(rows) == len(truth["images"])
    assert sum(int(row["instances"]) for row in rows) == len(truth["annotations"])
    curves = {"precision_recall", "froc", "confidence", "confusion_matrix", "reliability"}
    assert {file.stem for file in artifact("figures").iterdir()} == curves | {"labels", "augmented"}
    assert list(artifact("overlays").iterdir())


def test_checkpoints_and_events_are_kept(artifact):
    assert {path.name for path in artifact("checkpoints").iterdir()} == {"best.keras", "last.keras", "checkpoints.json"}
    assert any("tfevents" in path.name for path in artifact("tensorboard").iterdir())


def test_the_model_is_registered_and_predicts(store, trained):
    # Whether it is champion hangs on its AP, which may be 0 after seconds of training.
    (version,) = store.search_model_versions("name='mrcnn-ultrasound'")
    assert version.run_id == trained[0].info.run_id
    assert {"champion", "challenger"} & set(store.get_registered_model("mrcnn-ultrasound").aliases)
    version = store.get_model_version("mrcnn-ultrasound", version.version)
    assert "Research use only" in version.description and version.run_id in version.description
    model = mlflow.pyfunc.load_model("models:/mrcnn-ultrasound/1")
    (found,) = model.predict(np.zeros((40, 50), np.uint8))
    assert (found["width"], found["height"]) == (50, 40)


def test_the_report_sums_it_up(artifact, read_page):
    read = read_page(artifact("report.html").read_text(encoding="utf-8"))
    assert {"data", "training", "results", "threshold", "cases", "repeat"} <= set(read.values("id"))
    assert "mrcnn-ultrasound version 1 (" in read.text
    assert "duration until this report" in read.text
    assert json.loads(artifact("environment.json").read_text())["libraries"]["keras"]


@pytest.mark.slow
def test_the_report_is_there_where_the_model_cannot_be_registered(store, quick, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no room for the model")

    monkeypatch.setattr("experiments.training.trainer.package_and_register", refuse)
    with pytest.raises(OSError, match="no room"):
        quick()
    run = newest_run(store)
    assert run.info.status == "FAILED"
    assert "report.html" in {file.path for file in store.list_artifacts(run.info.run_id)}


def test_the_terminal_tells_what_matters(trained):
    _, printed = trained
    for word in ("patients", "epoch 1/2", "epoch 2/2", "val AP", "Dice", "Test split", "champion", "mlflow ui"):
        assert word in printed
    assert "\x1b" not in printed


@pytest.fixture
def quick(tiny_arguments, phantom_folder):
    """Starts a job; returns the exit status."""
    return lambda **options: main(tiny_arguments(**{"dataset": phantom_folder, **options}))


@pytest.mark.slow
def test_without_a_test_split_validation_is_reported_and_said_to_be(store, quick, capsys):
    # At this learning rate nothing gets better, so the second validation, after the fourth epoch, ends the training.
    options = {"epochs": 9, "validate_every": 2, "patience": 1, "learning_rate": 1e-12}
    assert quick(split="[0.7, 0.3, 0]", **options) == 0
    run = newest_run(store)
    metrics = run.data.metrics
    assert metrics["epochs"] == 4
    validated = {point.step for point in store.get_metric_history(run.info.run_id, "val/dice")}
    assert validated == {2, 4, 5}  # and what is reported at the end
    assert "val/dice" in metrics
    assert not any(name.startswith("test/") for name in metrics)
    assert "Validation split (there is no test split)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_stop_leaves_the_run_killed(store, quick, monkeypatch, number, status):
    monkeypatch.setattr("experiments.training.trainer.Trainer.fit", lambda _: os.kill(os.getpid(), number))
    assert quick() == status
    assert newest_run(store).info.status == "KILLED"


def test_bad_data_fail_the_run_in_plain_words(store, quick, tmp_path, capsys):
    (tmp_path / "annotations.json").write_text('{"images": []}')
    assert quick(dataset=tmp_path) == 2
    error = capsys.readouterr().err
    assert "annotations.json" in error
    assert "Traceback" not in error
    assert newest_run(store).info.status == "FAILED"


def test_a_bad_option_makes_no_run(store, quick, capsys):
    before = newest_run(store).info.run_id
    assert quick(optimizer="adam") == 2
    assert "--train.optimizer='adam': expected 'sgd' or 'adamw'" in capsys.readouterr().err
    assert newest_run(store).info.run_id == before


@pytest.mark.slow
def test_mlflow_run_from_another_folder(phantom_folder, tiny_arguments, tmp_path):
    (tmp_path / "data").symlink_to(phantom_folder)
    words = tiny_arguments(dataset="data", seed=4)
    options = [
        word for key, value in zip(words[::2], words[1::2], strict=True) for word in ("-P", f"{key[2:]}={value}")
    ]
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), *options, "--env-manager", "local"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = newest_run(MlflowClient(uri))
    assert run.info.status == "FINISHED"
    assert run.data.params["data.dataset"] == str(phantom_folder.resolve())
    assert run.data.params["seed"] == "4"


def test_at_most_six_frames_of_ours_are_between_the_command_and_fit(store, phantom_folder, tiny_arguments, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("in fit")

    monkeypatch.setattr("keras.Model.fit", fail)
    with pytest.raises(RuntimeError, match="in fit") as error:
        mrcnn_main(["train", *tiny_arguments(dataset=phantom_folder)])
    folders = [ROOT / name for name in ("experiments", "mrcnn", "sweeps", "trackers")]
    ours = [each.name for each in error.traceback if any(map(Path(each.path).is_relative_to, folders))]
    assert (len(ours) <= 6, ours[0], ours[-1]) == (True, "main", "fit"), ours
