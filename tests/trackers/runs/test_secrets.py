"""Passwords and tokens, which reach neither a run's record nor a terminal."""

import os
import subprocess
import sys

import mlflow
import pytest

from experiments.commands.compare import main as compare
from mrcnn.errors import InputError
from trackers.runs.address import hide_credentials
from trackers.runs.run import tracked_run
from trackers.runs.writer import Run

ABOUT = {"task": "thyroid", "modality": "ultrasound", "seed": 0, "backend": "tensorflow"}
SECRET = "Zq7secretword"
STORAGE = f"postgresql://ann:{SECRET}@db:5432/sweeps"


def holders(folder):
    """Files below a folder in which the secret stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if SECRET.encode() in path.read_bytes()]


def test_no_part_of_a_run_holds_one(store, tmp_path, monkeypatch, capfd):
    for name in ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MRCNN_PATIENT_SALT"):
        monkeypatch.setenv(name, f"{SECRET}-{name}")
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConnectionError), tracked_run(**ABOUT, tags={"from": "begun by hand"}) as run:
        run.params({"sweep.storage": STORAGE, "data.dataset": f"https://host/a.zip?X-Amz-Signature={SECRET}&b=1"})
        run.tags({"store": STORAGE})
        run.dataset("nodules", "d" * 64, {"images": 3}, "train", source=f"s3://{SECRET}@bucket/a?token={SECRET}")
        raise ConnectionError(f"could not connect to {STORAGE}")
    recorded = store.get_run(run.id)
    assert recorded.data.params["sweep.storage"] == "postgresql://***@db:5432/sweeps"
    assert recorded.data.params["data.dataset"] == "https://host/a.zip?X-Amz-Signature=***&b=1"
    assert recorded.data.tags["store"] == "postgresql://***@db:5432/sweeps"
    assert holders(tmp_path) == []
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err


def test_what_waits_for_the_server_holds_none(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    monkeypatch.setattr("trackers.offline.buffered_logger.is_server", lambda _: True)
    mlflow.set_tracking_uri(f"http://ann:{SECRET}@127.0.0.1:9")
    try:
        run = Run(mlflow.MlflowClient(), "0" * 32, "1")
        run.params({"sweep.storage": STORAGE})
        run.tags({"store": STORAGE})
        assert run._sender.close() == 2
    finally:
        mlflow.set_tracking_uri(None)
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert "journal.jsonl" in kept and "store.json" in kept and holders(tmp_path) == []


def test_a_password_that_mlflow_run_has_recorded_is_told_and_refused(store, monkeypatch):
    begun = store.create_run("0", tags={"mlflow.project.entryPoint": "sweep", "mlflow.source.name": STORAGE})
    store.log_param(begun.info.run_id, "storage", STORAGE)
    monkeypatch.setenv("MLFLOW_RUN_ID", begun.info.run_id)
    with pytest.raises(InputError, match=r"storage=postgresql://\*\*\*@db.* change it, delete run") as error:
        with tracked_run(**ABOUT):
            pass
    assert SECRET not in str(error.value)
    assert store.get_run(begun.info.run_id).data.tags["mlflow.source.name"] == "postgresql://***@db:5432/sweeps"


def test_a_traceback_shows_none():
    code = "from experiments.commands.command import quiet_libraries; quiet_libraries()\n"
    code += "try:\n    raise ValueError(STORAGE)\nexcept ValueError as error:\n"
    code += "    raise RuntimeError('http://ann:' + SECRET + '@host/api is away') from error"
    done = subprocess.run(
        [sys.executable, "-c", f"SECRET = {SECRET!r}; STORAGE = {STORAGE!r}\n{code}"],
        capture_output=True, text=True, env={**os.environ},
    )  # fmt: skip
    assert done.returncode == 1 and SECRET not in done.stderr
    assert "RuntimeError: http://***@host/api is away" in done.stderr and "ValueError: postgresql://***@" in done.stderr


def test_a_comparison_on_a_server_that_is_away(monkeypatch, capfd):
    mlflow.set_tracking_uri(f"http://ann:{SECRET}@127.0.0.1:9")
    try:
        assert compare(["--modality", "mri"]) == 2
    finally:
        mlflow.set_tracking_uri(None)
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err and "http://***@127.0.0.1:9" in said.err


@pytest.mark.parametrize(
    "name", ["token", "access_token", "X-Amz-Signature", "sig", "api_key", "client_secret", "PASSWORD"]
)
def test_secrets_of_queries(name):
    assert hide_credentials(f"https://host/a?x=1&{name}={SECRET}&y=2") == f"https://host/a?x=1&{name}=***&y=2"
