"""Workers as processes of this machine, and what a sweep asks of a worker wherever it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Process(Protocol):
    """A worker that was started; methods and errors are those of `subprocess.Popen`."""

    returncode: int | None

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Start = Callable[[Path, Path], Process]
"""Starts a worker for the job of a file, which adds what it says to a second file."""


def start_here(job: Path, log: Path, *, tracking: str, together: int) -> Process:
    """Start a worker on this machine, whose cores `together` workers share; `tracking` is MLflow's address."""
    settings = {"MLFLOW_TRACKING_URI": tracking}
    if together > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings |= dict.fromkeys(THREADS, str(max(1, cores // together)))
    return launch(job, log, settings)


def launch(job: Path, log: Path, settings: Mapping[str, str], folder: str | None = None) -> subprocess.Popen:
    """Start a worker with this process's environment and the variables `settings`, in `folder` or here."""
    # MLFLOW_RUN_ID is the sweep's own run, which a worker's must not be.
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps.worker", str(job)],
            env=environment | {"PYTHONUNBUFFERED": "1"} | dict(settings),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
