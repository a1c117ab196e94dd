"""Keeps a stopped run KILLED where `mlflow run` would have the last word.

After its command has ended `mlflow run` means to leave a status alone that the command has set, but it compares words
with numbers (MLflow 3.17, mlflow/projects/__init__.py, `_maybe_set_run_terminated`) and writes FAILED. So a small
process stays until that has happened, and puts KILLED back. It runs this file by its path and imports nothing of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import mlflow
import psutil

LONGEST_CLEAN_UP = 300.0
"""Seconds that the stopped job may take to end."""
LONGEST_ANSWER = 15.0
"""Seconds after the job's end in which `mlflow run` writes."""
PAUSE = 0.25


def preserve_killed_status(run_id: str) -> None:
    """Starts the process and does not wait for it. The store's address, with its password, goes by its environment."""
    subprocess.Popen(
        # -P: this folder's `tensorboard.py` and `run.py` must not stand in for packages of these names.
        [sys.executable, "-P", __file__, run_id, str(os.getpid())],
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Not in the terminal's group, so that another Ctrl-C does not reach it.
        start_new_session=True,
    )


def _watch(run_id: str, job: int) -> None:
    client = mlflow.MlflowClient()
    end = time.monotonic() + LONGEST_CLEAN_UP
    job_runs = True
    while time.monotonic() < end:
        if client.get_run(run_id).info.status == "FAILED":
            client.set_terminated(run_id, "KILLED")
            return
        if job_runs and not psutil.pid_exists(job):
            job_runs = False
            end = time.monotonic() + LONGEST_ANSWER
        time.sleep(PAUSE)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
