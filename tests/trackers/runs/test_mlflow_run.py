"""The job under a real `mlflow run`, which has its own mind about the run's status and parameters."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROJECT = """
name: job
entry_points:
  main:
    parameters:
      what: {{type: string, default: nothing}}
    command: "{python} job.py"
"""
JOB = """
import time
from trackers.runs.run import tracked_run

with tracked_run(task="thyroid", modality="ultrasound", seed=1, backend="tensorflow") as run:
    run.params({"what": "resolved", "epochs": 3})
    print("READY", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def job(store, tmp_path):
    """`mlflow run` with the job begun, in a group of processes of its own, as a terminal would have it."""
    if shutil.which("bash") is None:
        pytest.skip("mlflow run needs bash")
    (tmp_path / "MLproject").write_text(PROJECT.format(python=sys.executable))
    (tmp_path / "job.py").write_text(JOB)
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local", "-P", "what=wait"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if "READY" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def only_run(store):
    (run,) = store.search_runs([experiment.experiment_id for experiment in store.search_experiments()])
    return run


@pytest.mark.slow
def test_ctrl_c_leaves_the_run_killed(store, job):
    os.killpg(job.pid, signal.SIGINT)
    job.communicate(timeout=60)
    assert job.returncode != 0
    deadline = time.monotonic() + 30
    while only_run(store).info.status != "KILLED" and time.monotonic() < deadline:
        time.sleep(0.1)
    run = only_run(store)
    assert run.info.status == "KILLED"
    assert run.data.params == {"what": "wait", "resolved.what": "resolved", "epochs": "3"}
    assert run.data.tags["task"] == "thyroid"
