"""Runs of interrupted trials end without holding up the study, also when the tracking server is away meanwhile."""

import json
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest
from optuna.trial import TrialState

from sweeps import run_endings as ended_runs
from sweeps.options import SweepOptions
from sweeps.run_endings import RETRIED_RUN, RUN, end_runs, leave_ends, note_end, noted_ends
from sweeps.study import WORKER, acquire_trial, open_study, process, refill_queue
from trackers.offline.pending_records import pending_runs, upload_pending

OPTIONS = SweepOptions(sampler="random")
FIRST = "a" * 32


@pytest.fixture
def study(tmp_path, monkeypatch):
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ended_runs, "_next_attempt", 0.0)
    monkeypatch.setattr(ended_runs, "PAUSE", 0.0)
    yield open_study(f"sqlite:///{tmp_path}/sweeps.db", "s", OPTIONS, ["dice"], epochs=9)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def killed():
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    who = process(running.pid)
    running.kill()
    running.wait()
    return who


class Runs:
    """A tracking server that knows runs, which are RUNNING, and is away until `start`."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.status, self.server = {}, None
        mlflow.set_tracking_uri(f"http://127.0.0.1:{self.port}")

    def start(self):
        runs = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self):
                given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                run = given.get("run_id") or self.path.rpartition("run_id=")[2]
                if "runs/update" in self.path:
                    runs.status[run] = given["status"]
                info = {"run_id": run, "status": runs.status.get(run, "RUNNING"), "lifecycle_stage": "active"}
                body = json.dumps({"run": {"info": info, "data": {}}, "run_info": info}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = _do

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def runs():
    found = Runs()
    yield found
    if found.server:
        found.server.shutdown()
        found.server.server_close()


def test_a_server_that_is_away_holds_no_worker_up_and_hears_of_the_end_later(study, killed, runs):
    refill_queue(study, 2)
    first = acquire_trial(study, OPTIONS, 0)
    first.set_user_attr(RUN, FIRST)
    first.set_user_attr(WORKER, killed)
    started = time.monotonic()
    again = acquire_trial(study, OPTIONS, 0)
    other = acquire_trial(study, OPTIONS, 0)
    assert time.monotonic() - started < 20  # 249 s with MLflow's own retries
    assert (again.number, other.number) == (2, 1)
    assert set(noted_ends(study)) == {FIRST}
    again.set_user_attr(RUN, "b" * 32)  # it began anew, so the first attempt's run is to end
    runs.start()
    acquire_trial(study, OPTIONS, 0)
    assert runs.status == {FIRST: "KILLED"}
    assert noted_ends(study) == {}


def test_the_study_is_not_locked_while_a_server_that_hangs_is_asked(study, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    refill_queue(study, 2)
    note_end(study, FIRST, "KILLED", "stopped")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(30)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{silent.getsockname()[1]}")
        hanging = threading.Thread(target=acquire_trial, args=(study, OPTIONS, 0), daemon=True)
        hanging.start()
        asked, _ = silent.accept()
        monkeypatch.setattr(ended_runs, "_next_attempt", time.monotonic() + 60)  # another process has its own
        assert acquire_trial(study, OPTIONS, 0).number == 1
        assert hanging.is_alive()
        asked.close()
        hanging.join(30)


def test_a_run_that_a_retry_has_taken_up_goes_on(study, runs):
    runs.start()
    refill_queue(study, 1)
    trial = acquire_trial(study, OPTIONS, 0)
    note_end(study, FIRST, "KILLED", "stopped")
    trial.set_user_attr(RETRIED_RUN, FIRST)
    end_runs(study)
    assert (runs.status, set(noted_ends(study))) == ({}, {FIRST})  # not known yet whether it is taken up
    trial.set_user_attr(RUN, FIRST)
    end_runs(study)
    assert (runs.status, noted_ends(study)) == ({}, {})


def test_what_is_left_at_the_end_of_the_sweep_is_delivered_by_sync(study, runs):
    note_end(study, FIRST, "FAILED", "killed three times")
    leave_ends(study)
    assert (noted_ends(study), pending_runs()) == ({}, [FIRST])
    runs.start()
    assert upload_pending(FIRST).problem is None
    assert (runs.status, pending_runs()) == ({FIRST: "FAILED"}, [])


def test_a_run_that_was_deleted_is_let_go(study, tmp_path, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    note_end(study, FIRST, "KILLED", "stopped")
    end_runs(study)
    assert noted_ends(study) == {}
    assert not study.get_trials(states=(TrialState.RUNNING,))
