import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mrcnn.errors import InputError
from trackers.runs.environment import COMMIT
from trackers.runs.run import Parent, tracked_run
from trackers.runs.signals import Terminated

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 3, "backend": "tensorflow"}


def statuses(store):
    experiments = [experiment.experiment_id for experiment in store.search_experiments()]
    return [run.info.status for run in store.search_runs(experiments)]


def test_a_run_says_what_it_is(store):
    with tracked_run(**ABOUT, run_name="first", tags={"profile": "quick"}) as run:
        assert store.get_run(run.id).info.status == "RUNNING"
        assert mlflow.active_run().info.run_id == run.id
    kept = store.get_run(run.id)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "first"
    experiment = store.get_experiment(kept.info.experiment_id)
    assert experiment.name == "thyroid"
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    told = {"task": "thyroid", "modality": "ultrasound", "seed": "3", "backend": "tensorflow", "profile": "quick"}
    assert told.items() <= kept.data.tags.items()


def test_the_commit_of_the_code_is_kept(store, monkeypatch):
    monkeypatch.setattr(
        "trackers.runs.run.git_tags", lambda file: {COMMIT: f"commit of {file.name}", "git_dirty": "true"}
    )
    with tracked_run(**ABOUT) as run:
        pass
    tags = store.get_run(run.id).data.tags
    assert (tags["mlflow.source.git.commit"], tags["git_dirty"]) == ("commit of run.py", "true")


def test_a_failure_is_kept_and_goes_on(store):
    with pytest.raises(ValueError, match="no images") as caught, tracked_run(**ABOUT) as run:
        raise ValueError("no images in postgresql://ann:secret@db/data")
    kept = store.get_run(run.id)
    assert kept.info.status == "FAILED"
    assert kept.info.end_time is not None
    assert kept.data.tags["error"] == "ValueError: no images in postgresql://***@db/data"
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(("code", "status"), [(0, "FINISHED"), (None, "FINISHED"), (2, "FAILED"), ("bad", "FAILED")])
def test_an_exit_ends_as_its_code_says(store, code, status):
    with pytest.raises(SystemExit), tracked_run(**ABOUT) as run:
        raise SystemExit(code)
    assert store.get_run(run.id).info.status == status


def test_a_failure_to_end_the_run_does_not_hide_the_failure(store, monkeypatch):
    def refuse(*_):
        raise ConnectionError("https://ann:secret@host is away")

    with pytest.raises(ValueError, match="the news") as caught, tracked_run(**ABOUT) as run:
        monkeypatch.setattr(run, "tags", refuse)
        monkeypatch.setattr(mlflow, "end_run", refuse)
        raise ValueError("the news")
    assert caught.value.__notes__ == [
        "The message could not be logged: https://***@host is away",
        f"MLflow run {run.id} could not be marked FAILED: https://***@host is away",
    ]
    monkeypatch.undo()
    mlflow.end_run()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_stop_leaves_the_run_killed_and_the_handlers_as_they_were(store, number, error):
    before = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt) as caught, tracked_run(**ABOUT) as run:
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert caught.type is error
    assert store.get_run(run.id).info.status == "KILLED"
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == before


def test_a_stop_that_code_in_c_lost_keeps_its_kind(store):
    """As TensorFlow loses it; `mrcnn.models.training.batches.training_batches` then raises a stop in its place."""
    with pytest.raises(Terminated), tracked_run(**ABOUT) as run:
        with suppress(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        raise KeyboardInterrupt
    assert store.get_run(run.id).info.status == "KILLED"


def test_the_sigterm_that_mlflow_sends_after_ctrl_c_does_not_break_the_clean_up(store):
    cleaned = False
    with pytest.raises(KeyboardInterrupt), tracked_run(**ABOUT) as run:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            cleaned = True
    assert cleaned
    assert store.get_run(run.id).info.status == "KILLED"


def test_a_stop_while_the_run_is_being_closed_waits(store, monkeypatch):
    end_run = mlflow.end_run

    def interrupted_end(*status):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        end_run(*status)

    monkeypatch.setattr(mlflow, "end_run", interrupted_end)
    with pytest.raises(KeyboardInterrupt), tracked_run(**ABOUT) as run:
        pass
    assert store.get_run(run.id).info.status == "FINISHED"


def test_a_run_in_another_thread_leaves_signals_alone(store):
    def work():
        with tracked_run(**ABOUT) as run:
            run.metrics({"loss": 1.0})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert statuses(store) == ["FINISHED"]


def test_the_run_of_mlflow_run_is_taken_up(store, monkeypatch):
    waiting = store.create_run("0", tags={"mlflow.source.git.commit": "c0ffee"})
    store.log_batch(
        waiting.info.run_id,
        params=[
            mlflow.entities.Param(name, value)
            for name, value in {
                "task": "thyroid",
                "dataset": "",
                "lr": "1e-3",
                "flip": "True",
                "sizes": "[1,2]",
            }.items()
        ],
    )
    monkeypatch.setenv("MLFLOW_RUN_ID", waiting.info.run_id)
    with tracked_run(**ABOUT) as run:
        run.params(
            {"task": "thyroid", "dataset": "phantoms", "lr": 0.001, "flip": True, "sizes": (1, 2), "train.epochs": 3}
        )
        run.params({"dataset": "phantoms", "train.epochs": 3})
    assert run.id == waiting.info.run_id
    assert statuses(store) == ["FINISHED"]
    kept = store.get_run(run.id).data
    assert kept.tags["mlflow.source.git.commit"] == "c0ffee"
    assert kept.tags["task"] == "thyroid"
    assert kept.params == {
        "task": "thyroid",
        "dataset": "",
        "resolved.dataset": "phantoms",
        "lr": "1e-3",
        "flip": "True",
        "sizes": "[1,2]",
        "train.epochs": "3",
    }
    assert "MLFLOW_RUN_ID" not in os.environ


def test_an_interrupted_run_goes_on_and_holds_each_number_once(store, monkeypatch):
    with pytest.raises(RuntimeError), tracked_run(**ABOUT) as run:
        run.metrics({"loss": 1.0, "dice": 0.5}, step=1)
        run.metrics({"loss": 0.9}, step=2)
        raise RuntimeError("out of luck")
    assert store.get_run(run.id).info.status == "FAILED"
    # As `mlflow run` has made one for its command.
    bystander = store.create_run(run.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", bystander)
    with tracked_run(**ABOUT, resumed=run.id) as again:
        assert again.id == run.id
        assert store.get_run(run.id).info.status == "RUNNING"
        again.metrics({"loss": 7.0, "dice": 0.6}, step=2)
        again.metrics({"loss": 0.8}, step=3)
    ended = store.get_run(run.id)
    assert ended.info.status == "FINISHED"
    assert "error" not in ended.data.tags
    assert [(point.step, point.value) for point in store.get_metric_history(run.id, "loss")] == [
        (1, 1.0), (2, 0.9), (3, 0.8)
    ]  # fmt: skip
    assert [(point.step, point.value) for point in store.get_metric_history(run.id, "dice")] == [(1, 0.5), (2, 0.6)]
    assert store.get_run(bystander).data.tags["resumed_run"] == run.id


def test_a_run_id_that_is_not_there_is_named(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with (
        pytest.raises(InputError, match=r"MLFLOW_RUN_ID=0{32}: expected a run of the store sqlite:"),
        tracked_run(**ABOUT),
    ):
        pass


def test_a_deleted_experiment_is_named(store):
    number = store.create_experiment("thyroid")
    store.delete_experiment(number)
    with pytest.raises(InputError, match=f"mlflow experiments restore --experiment-id {number}"), tracked_run(**ABOUT):
        pass


def test_a_third_value_of_a_parameter_is_warned_of(store, caplog):
    with tracked_run(**ABOUT) as run:
        for epochs in (1, 2, 3):
            run.params({"epochs": epochs})
    assert store.get_run(run.id).data.params == {"epochs": "1", "resolved.epochs": "2"}
    assert "epochs=3" in caplog.text


def test_many_and_long_parameters(store):
    with tracked_run(**ABOUT) as run:
        run.params({f"p.{number}": number for number in range(250)})
        run.params({"long": "x" * 10_000, "none": None, "classes": ["nódulo"], "weights.nódulo (iso)": np.float32(0.5)})
    kept = store.get_run(run.id).data.params
    assert {f"p.{number}": str(number) for number in range(250)}.items() <= kept.items()
    assert kept["long"] == "x" * 5999 + "…"
    assert (kept["none"], kept["classes"], kept["weights.nódulo _iso_"]) == ("null", '["nódulo"]', "0.5")


def test_metrics_by_step(store):
    with tracked_run(**ABOUT) as run:
        for epoch, loss in enumerate([2.0, 1.0]):
            run.metrics({"train/loss": np.float32(loss), "val/dice/nódulo (iso)": epoch}, epoch)
        run.metrics({f"m/{number}": number for number in range(1500)})
    history = store.get_metric_history(run.id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.0)]
    kept = store.get_run(run.id).data.metrics
    assert kept["val/dice/nódulo _iso_"] == 1
    assert len(kept) == 1502


def test_files(store, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n")
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    figure = Figure()
    figure.subplots().plot([1, 2])
    with tracked_run(**ABOUT) as run:
        run.artifact(tmp_path / "table.csv", "test")
        run.text("día", "notes/a.txt")
        run.json({"array": np.array([1.5, np.nan]), "count": np.int64(2), "file": Path("a")}, "a.json")
        run.figure(figure, "curves/pr.png")
        run.image(picture, "overlays/worst.png")
    root = Path(store.download_artifacts(run.id, ""))
    assert (root / "test/table.csv").read_text() == "a,b\n"
    assert (root / "notes/a.txt").read_text() == "día"
    assert json.loads((root / "a.json").read_text()) == {"array": [1.5, None], "count": 2, "file": "a"}
    np.testing.assert_array_equal(np.asarray(Image.open(root / "overlays/worst.png")), picture)
    assert Image.open(root / "curves/pr.png").size[0] > 100


def test_long_tags_are_cut(store):
    with tracked_run(**ABOUT) as run:
        run.tags({"seen": 4, "long": "x" * 9000})
    tags = store.get_run(run.id).data.tags
    assert tags["seen"] == "4"
    assert set(tags["long"]) == {"x"}


def test_datasets_are_inputs_of_the_run(store):
    digest = "0123456789abcdef" * 4
    with tracked_run(**ABOUT) as run:
        for context in ("train", "test"):
            run.dataset("phantoms", digest, {"images": np.int64(4), "sizes": [1, 2]}, context, source="/data/a")
        run.dataset("none", digest, {}, "val")
    inputs = {entry.tags[0].value: entry.dataset for entry in store.get_run(run.id).inputs.dataset_inputs}
    assert sorted(inputs) == ["test", "train", "val"]
    assert inputs["train"].digest == digest[:36]
    assert json.loads(inputs["test"].profile) == {"images": 4, "sizes": [1, 2], "digest": digest}
    assert mlflow.data.get_source(inputs["train"]).uri == "/data/a"


def test_how_to_open_names_this_store(store, tmp_path):
    with tracked_run(**ABOUT) as run:
        assert run.how_to_open() == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db --port 5000"
        experiment = store.get_experiment_by_name("thyroid").experiment_id
        assert run.url() == f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run.id}"


def test_without_a_tracking_uri_the_store_is_sqlite_here(store, tmp_path, monkeypatch):
    mlflow.set_tracking_uri(None)
    with tracked_run(**ABOUT) as run:
        run.text("a", "a.txt")
        assert run.how_to_open() == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow.db --port 5000"
    assert (tmp_path / "mlflow.db").is_file()
    assert list(tmp_path.glob("mlruns/**/a.txt"))


def test_system_metrics_are_kept(store, monkeypatch):
    monkeypatch.delenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with tracked_run(**ABOUT) as run:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and "system/cpu_utilization_percentage" not in kept_metrics(store, run):
            time.sleep(0.05)
    assert "system/cpu_utilization_percentage" in kept_metrics(store, run)


def kept_metrics(store, run):
    return store.get_run(run.id).data.metrics


def test_a_run_within_another_ends_by_itself(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", store.create_run("0").info.run_id)
    with tracked_run(**ABOUT) as parent:
        with tracked_run(
            **ABOUT, run_name="fold 1", tags={"fold": "1"}, parent=Parent(parent.id, parent.experiment_id)
        ) as first:
            assert mlflow.active_run().info.run_id == first.id
            first.metrics({"dice": 0.5})
        assert mlflow.active_run().info.run_id == parent.id
        assert store.get_run(first.id).info.status == "FINISHED"
        with (
            pytest.raises(ValueError, match="no"),
            tracked_run(
                **ABOUT, run_name="fold 2", tags={"fold": "2"}, parent=Parent(parent.id, parent.experiment_id)
            ) as second,
        ):
            raise ValueError("no")
        assert store.get_run(parent.id).info.status == "RUNNING"
        assert mlflow.active_run().info.run_id == parent.id
    kept = store.get_run(first.id)
    assert (kept.info.run_name, kept.info.experiment_id) == ("fold 1", "0")
    told = {"task": "thyroid", "seed": "3", "fold": "1", "mlflow.parentRunId": parent.id}
    assert told.items() <= kept.data.tags.items()
    assert store.get_run(second.id).info.status == "FAILED"
    assert store.get_run(second.id).data.tags["error"] == "ValueError: no"
    assert store.get_run(parent.id).info.status == "FINISHED"


def test_a_stop_within_a_run_within_another_kills_both(store):
    with (
        pytest.raises(KeyboardInterrupt),
        tracked_run(**ABOUT) as parent,
        tracked_run(**ABOUT, run_name="fold 1", parent=Parent(parent.id, parent.experiment_id)) as child,
    ):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    assert [store.get_run(each.id).info.status for each in (parent, child)] == ["KILLED", "KILLED"]
