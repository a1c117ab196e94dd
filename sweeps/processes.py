"""Run workers as processes of this machine, and define the interface of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Process(Protocol):
    """A started worker with methods and errors of `subprocess.Popen`."""

    returncode: int | None

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Start = Callable[[Path, Path], Process]
"""Start a worker with the job in a file; it appends its output to a second file."""


def start_here(job: Path, log: Path, *, tracking: str, together: int) -> Process:
    """Start a worker on this machine, whose cores `together` workers share; `tracking` is the address of MLflow."""
    settings = {"MLFLOW_TRACKING_URI": tracking}
    if together > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        settings |= dict.fromkeys(THREADS, str(max(1, cores // together)))
    return launch(job, log, settings)


def launch(job: Path, log: Path, settings: Mapping[str, str], folder: str | None = None) -> subprocess.Popen:
    """Start a worker with the environment of this process and the variables `settings`, in `folder` if given."""
    # MLFLOW_RUN_ID is the run of the sweep; a worker must not log to it.
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
