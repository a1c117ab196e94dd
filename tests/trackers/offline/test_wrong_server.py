"""What is no tracking server, or one that refuses access, answers at the server's address: at the start, or later."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import pytest
from mlflow import MlflowClient

from mrcnn.errors import InputError
from trackers.offline import buffered_logger as sender
from trackers.offline.pending_records import pending_runs, upload_pending
from trackers.offline.server import Undelivered, WrongServer, check_reachable
from trackers.runs.run import Parent, tracked_run
from trackers.runs.writer import Run, left_behind

RUN = "0123456789abcdef0123456789abcdef"
ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 3, "backend": "tensorflow"}


class Port:
    """An address where first a small tracking server with one run answers, or something else: see `answer`.

    Attributes:
        answer: None: the tracking server; otherwise the status and body of every answer.
        taken: the metrics that the tracking server took, (step, value), in their order.
    """

    def __init__(self):
        self.answer, self.taken, self.status = None, [], "RUNNING"
        port = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self):
                given = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = port.answer or port.tracking(self.path, json.loads(given or b"{}"))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def tracking(self, path, given):
        run = {"info": {"run_id": RUN, "experiment_id": "1", "status": self.status}, "data": {}}
        if "runs/get" in path or "runs/create" in path:
            return 200, json.dumps({"run": run}).encode()
        if "runs/log-batch" in path:
            self.taken += [(int(each["step"]), each["value"]) for each in given.get("metrics", ())]
        elif "metrics/get-history" in path:
            points = [{"key": "loss", "value": value, "step": step, "timestamp": 0} for step, value in self.taken]
            return 200, json.dumps({"metrics": points}).encode()
        elif "runs/update" in path:
            self.status = given["status"]
            return 200, json.dumps({"run_info": {**run["info"], "status": self.status}}).encode()
        elif "experiments/get-by-name" in path:
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
            return 404, json.dumps(missing).encode()
        return 200, b"{}"


@pytest.fixture
def port(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setattr(sender, "PAUSE", 0.0)
    monkeypatch.setattr(sender, "LONGEST_PAUSE", 0.0)
    found = Port()
    mlflow.set_tracking_uri(found.address)
    yield found
    mlflow.set_tracking_uri(None)
    left_behind.clear()
    found.server.shutdown()
    found.server.server_close()


STRANGERS = {
    "everything is fine": (200, b"{}"),
    "an empty answer": (200, b""),
    "a page": (200, b"<html>"),
    "no such page": (404, b"<html>"),
    "another API": (404, b'{"detail": "Not Found"}'),
    "a login page": (302, b""),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_at_the_start_is_one_line(port, stranger):
    port.answer = STRANGERS[stranger]
    line = rf"MLFLOW_TRACKING_URI={port.address}: no MLflow tracking server answers there \(.+\); start it, or correct"
    with pytest.raises(InputError, match=line) as error, tracked_run(**ABOUT):
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", [b"You are not authenticated.", b'{"error_code": "%s", "message": "x"}'])
@pytest.mark.parametrize(("status", "code"), [(401, b"UNAUTHENTICATED"), (403, b"PERMISSION_DENIED")])
def test_refused_access_at_the_start_names_the_remedy(port, status, code, body):
    port.answer = (status, body.replace(b"%s", code))
    line = (
        rf"^MLFLOW_TRACKING_URI={port.address}: the tracking server refuses access \(HTTP {status}\); "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN$"
    )
    with pytest.raises(InputError, match=line), tracked_run(**ABOUT):
        pass


def test_a_tracking_server_passes(port):
    check_reachable()


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_a_stranger_took_or_refused_arrives_once_the_server_is_back(port, stranger):
    run = Run(MlflowClient(), RUN, "1")
    run.metrics({"loss": 0.5}, step=1)
    port.answer = STRANGERS[stranger]
    for step in (2, 3, 4):
        run.metrics({"loss": step / 8}, step=step)
    assert not run.up_to_date()
    port.answer = None
    run.metrics({"loss": 0.75}, step=5)
    assert port.taken == [(1, 0.5), (2, 0.25), (3, 0.375), (4, 0.5), (5, 0.75)]
    assert run._sender.close() == 0


def test_a_run_whose_end_a_stranger_took_is_not_said_to_have_finished(port):
    with pytest.raises(Undelivered, match="2 records wait for the tracking server"):
        with tracked_run(**ABOUT, parent=None) as run:
            port.answer = (200, b"{}")
            run.metrics({"loss": 0.5}, step=1)
    assert pending_runs() == [RUN]
    assert upload_pending(RUN).problem.startswith("the server does not answer (something else answers")
    port.answer = None
    assert upload_pending(RUN).problem is None
    assert (port.taken, port.status) == ([(1, 0.5)], "FINISHED")
    assert pending_runs() == []


def test_a_run_that_a_stranger_begins_is_none(port):
    port.answer = (200, b"{}")
    with pytest.raises(WrongServer, match="no MLflow tracking server answers at"):
        with tracked_run(**ABOUT, parent=Parent("p" * 32, "1")):
            pass


def test_refused_access_later_is_one_line(port):
    with pytest.raises(InputError, match=rf"run {RUN}: the tracking server {port.address} refuses access \(HTTP 401\)"):
        with tracked_run(**ABOUT) as run:
            port.answer = (401, b"expired")
            run.metrics({"loss": 0.5}, step=1)
