"""Runs on a real tracking server that is killed while they write."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict

import mlflow
import numpy as np
import pytest
import requests
from matplotlib.figure import Figure
from mlflow import MlflowClient

from experiments.commands import sync
from mrcnn.errors import InputError
from trackers.offline import buffered_logger as sender
from trackers.offline import server
from trackers.offline.pending_records import pending_runs, upload_pending
from trackers.offline.server import ServerAway, Undelivered
from trackers.registry.registry import register
from trackers.runs.run import Parent, tracked_run
from trackers.runs.writer import Run

NOTHING = """
import mlflow
class Nothing(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[int]):
        return model_input
mlflow.models.set_model(Nothing())
"""
ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 3, "backend": "tensorflow"}


class TrackingServer:
    """A real `mlflow server` that can be killed and started again on the same store.

    Serves the SQLite store and the artifacts of `folder` at `address`; nothing runs before `start`."""

    def __init__(self, folder, empty_store):
        self.folder, self._process = folder, None
        (folder / "mlflow.db").write_bytes(empty_store)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    def start(self):
        with open(self.folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"),
                    *("--port", str(self._port), "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
                start_new_session=True,
            )
        end = time.monotonic() + 240
        while time.monotonic() < end:
            try:
                if requests.get(f"{self.address}/health", timeout=5).ok:
                    return
            except requests.RequestException:
                time.sleep(0.2)
        raise RuntimeError((self.folder / "server.log").read_text())

    def kill(self):
        """SIGKILL to all its processes, as a power cut of its machine would end it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def tracking(tmp_path_factory, empty_store):
    served = TrackingServer(tmp_path_factory.mktemp("served"), empty_store)
    yield served
    served.kill()


@pytest.fixture
def away(store, tracking, tmp_path, monkeypatch):
    """The server, up; the test may kill it."""
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sender, "PAUSE", 0.2)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 0.2)
    # A busy machine may let the server wait; one that was killed refuses at once.
    monkeypatch.setattr(server, "ANSWER", 120)
    mlflow.set_tracking_uri(tracking.address)
    if tracking._process is None:
        tracking.start()
    return tracking


def histories(run_id):
    """(step, value) of each metric, in the order in which the store has them."""
    client = MlflowClient()
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run_id, name)]
        for name in client.get_run(run_id).data.metrics
    }


def text(run_id, path):
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{path}")


@pytest.mark.slow
def test_everything_of_an_outage_arrives_in_the_same_run(away, tmp_path):
    (tmp_path / "kept" / "below").mkdir(parents=True)
    (tmp_path / "kept" / "below" / "b.txt").write_text("below")
    with tracked_run(**ABOUT) as run:
        run.metrics({"loss": 0.5}, step=1)
        away.kill()
        run.metrics({"loss": 0.25, "dice/iso": float("nan")}, step=2)
        run.params({"train.epochs": 3, "seed": 3})
        run.tags({"note": "first"})
        run.tags({"note": "second"})
        run.artifact(tmp_path / "kept", "folder")
        (tmp_path / "kept" / "below" / "b.txt").write_text("changed since")
        run.text("grün", "words/a.txt")
        run.image(np.full((4, 5, 3), 9, np.uint8), "image.png")
        run.figure(Figure(), "figures/curve.png")
        run.dataset("phantoms", "d1", {"images": 3}, "train")
        assert not run.up_to_date()
        away.start()
        assert run.up_to_date()
        assert pending_runs() == [run.id]
        run.metrics({"loss": 0.125}, step=3)
    assert pending_runs() == []
    kept = MlflowClient().get_run(run.id)
    found = histories(run.id)
    assert found["loss"] == [(1, 0.5), (2, 0.25), (3, 0.125)]
    assert [step for step, _ in found["dice/iso"]] == [2]
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"train.epochs": "3", "seed": "3"}
    assert kept.data.tags["note"] == "second"
    assert [each.dataset.name for each in kept.inputs.dataset_inputs] == ["phantoms (train)"]
    assert text(run.id, "folder/kept/below/b.txt") == "below"
    assert text(run.id, "words/a.txt") == "grün"
    files = {file.path for file in MlflowClient().list_artifacts(run.id)}
    assert files == {"folder", "words", "image.png", "figures"}


@pytest.mark.slow
def test_a_server_killed_at_any_moment_leaves_neither_gaps_nor_doubles(away):
    def fall():
        time.sleep(0.5)
        away.kill()
        time.sleep(1)
        away.start()

    wanted, steps = defaultdict(list), 0
    falling = threading.Thread(target=fall)
    with tracked_run(**ABOUT) as run:
        falling.start()
        # On until there were some after the restart.
        while falling.is_alive() or steps % 10:
            steps += 1
            numbers = {f"m{column}": steps + column / 8 for column in range(5)}
            run.metrics(numbers, step=steps)
            for name, value in numbers.items():
                wanted[name].append((steps, value))
            time.sleep(0.1)
        falling.join()
    assert steps > 10
    assert histories(run.id) == wanted


@pytest.mark.slow
def test_what_is_kept_to_the_end_is_delivered_by_sync(away, capsys, caplog, monkeypatch):
    monkeypatch.setattr("trackers.runs.writer.SERVER_TIMEOUT", 0.5)
    client = MlflowClient()
    # Of a process that is killed with an epoch in its journal.
    killed = Run(client, client.create_run("0").info.run_id, "0")
    killed.metrics({"loss": 1.0}, step=1)
    with pytest.raises(ServerAway, match="no model is registered; `mrcnn sync`"), tracked_run(**ABOUT) as needy:
        needy.require_server("no model is registered")
        parent = Parent(needy.id, needy.experiment_id)
        with pytest.raises(ValueError, match="the news"), tracked_run(**ABOUT, parent=parent) as failed:
            with tracked_run(**ABOUT, parent=parent) as below:
                below.metrics({"loss": 1.0}, step=1)
                away.kill()
                below.metrics({"loss": 2.0}, step=2)
                below.text("kept", "a.txt")
            killed.metrics({"loss": 2.0}, step=2)
            killed._sender._held.close()
            raise ValueError("the news")
        needy.metrics({"mean": 1.5})
        needy.require_server("no model is registered")
    runs = (needy, failed, below, killed)
    assert pending_runs() == sorted(run.id for run in runs)
    assert f"run {failed.id}: 2 records wait for the tracking server" in caplog.text
    assert sync.main([]) == 1
    assert capsys.readouterr().out.count("the server does not answer (connection refused)") == len(runs)
    away.start()
    assert sync.main(["--dry-run"]) == 1
    assert f"run {below.id} on {away.address}: waiting (1 artifact, 1 end, 1 metrics)" in capsys.readouterr().out
    assert histories(below.id) == {"loss": [(1, 1.0)]}
    # The killed one goes on, and tells of its last epoch again.
    again = Run(client, killed.id, "0", resumed=True)
    assert "another process has locked the run" in upload_pending(killed.id).problem
    again.metrics({"loss": 2.0}, step=2)
    again.metrics({"loss": 3.0}, step=3)
    again._sender.close()
    assert histories(killed.id) == {"loss": [(1, 1.0), (2, 2.0), (3, 3.0)]}
    assert sync.main([]) == 0
    told = capsys.readouterr().out
    assert "3 of 3 records delivered" in told
    assert "View run" not in told
    assert histories(below.id) == {"loss": [(1, 1.0), (2, 2.0)]}
    assert histories(needy.id) == {"mean": [(0, 1.5)]}
    assert text(below.id, "a.txt") == "kept"
    ends = [client.get_run(run.id) for run in (needy, failed, below)]
    assert [end.info.status for end in ends] == ["FAILED", "FAILED", "FINISHED"]
    assert ends[1].data.tags["error"] == "ValueError: the news"
    assert sync.main([]) == 0
    assert capsys.readouterr().out == "Nothing waits to be delivered\n"


@pytest.mark.slow
def test_a_server_killed_while_a_model_is_registered_leaves_one_whole_version(away, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("trackers.registry.registry_lock.ABANDONED", 1.0)
    (tmp_path / "nothing.py").write_text(NOTHING)
    entry = {"name": "mrcnn-ct", "metric": "dice", "value": 0.5, "digest": "d", "task": "thyroid"}
    update = MlflowClient.update_model_version

    def fall(*arguments):
        away.kill()
        return update(*arguments)

    with pytest.raises(ServerAway, match="it needed the tracking server"), tracked_run(**ABOUT) as run:
        model = mlflow.pyfunc.log_model(
            name="model", python_model=str(tmp_path / "nothing.py"), pip_requirements=["mlflow"]
        )
        with monkeypatch.context() as falling:
            falling.setattr(MlflowClient, "update_model_version", fall)
            register(model.model_uri, run_id=run.id, **entry)
    away.start()
    assert sync.main([]) == 0
    assert MlflowClient().get_run(run.id).info.status == "FAILED"
    with tracked_run(**ABOUT, resumed=run.id):
        entered = register(model.model_uri, run_id=run.id, **entry)
    (version,) = MlflowClient().search_model_versions("name = 'mrcnn-ct'")
    assert (str(version.version), entered.alias) == (entered.version, "champion")
    assert "Research use only" in version.description
    assert [each.name for each in MlflowClient().search_registered_models()] == ["mrcnn-ct"]


@pytest.mark.slow
def test_all_done_but_the_server_away_at_the_end_is_told(away):
    with pytest.raises(Undelivered, match=r"1 record waits for the tracking server.*mrcnn sync"):
        with tracked_run(**ABOUT) as run:
            away.kill()
    assert pending_runs() == [run.id]


@pytest.mark.slow
def test_a_server_that_is_not_there_at_the_beginning_is_told_at_once(store, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        mlflow.set_tracking_uri(f"http://ann:secret@{address}")
        monkeypatch.setattr(server, "ANSWER", 1)
        message = rf"http://\*\*\*@{address}: the tracking server does not answer \(no answer in time\)"
        started = time.monotonic()
        with pytest.raises(InputError, match=message), tracked_run(**ABOUT):
            pass
    with pytest.raises(InputError, match="connection refused"), tracked_run(**ABOUT):
        pass
    assert time.monotonic() - started < 10
