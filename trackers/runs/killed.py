"""Restore the status KILLED of a stopped run after `mlflow run` has overwritten it.

`mlflow run` should not change a status that its command has set, but it compares names with numbers (MLflow 3.17,
mlflow/projects/__init__.py, `_maybe_set_run_terminated`) and writes FAILED. So a small process waits for that and
writes KILLED. It runs this file by its path and imports nothing else of this project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import mlflow
import psutil

MAX_CLEAN_UP = 300.0
"""Maximum seconds until the stopped job ends."""
MAX_DELAY = 15.0
"""Maximum seconds from the end of the job until `mlflow run` writes."""
PAUSE = 0.25


def preserve_killed_status(run_id: str) -> None:
    """Start the process without waiting; its environment has the address of the store with its password."""
    subprocess.Popen(
        # -P: `tensorboard.py` of this folder must not replace the package of this name.
        [sys.executable, "-P", __file__, run_id, str(os.getpid())],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # In a session of its own, so that another Ctrl-C does not reach it.
        start_new_session=True,
    )


def _watch(run_id: str, job: int) -> None:
    client = mlflow.MlflowClient()
    end = time.monotonic() + MAX_CLEAN_UP
    job_runs = True
    while time.monotonic() < end:
        if client.get_run(run_id).info.status == "FAILED":
            client.set_terminated(run_id, "KILLED")
            return
        if job_runs and not psutil.pid_exists(job):
            job_runs = False
            end = time.monotonic() + MAX_DELAY
        time.sleep(PAUSE)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
