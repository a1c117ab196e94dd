"""Run workers as Ray actors on the machines of a cluster.

An actor reserves cores and GPUs of a machine and runs the same worker process as a sweep on one machine. Ray restarts
nothing: the study contains the remaining trials, and a new worker joins it like any other.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mrcnn.errors import InputError, counted
from sweeps.options import SweepOptions
from sweeps.processes import THREADS, Process, Start, launch
from sweeps.worker import REPLACE
from trackers.runs.address import hide_credentials

NOT_STARTED = 1
"""Exit status of a worker that no node could start."""
ANSWER = 10.0
"""Seconds that a node has to answer."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@contextmanager
def cluster(options: SweepOptions, storage: str, tracking: str) -> Iterator[Start]:
    """Join a Ray cluster, or start one on this machine, and leave it at the end; yield what starts workers.

    Raises:
        InputError: Ray is missing, the cluster does not exist or cannot run a worker, or its machines cannot reach the
            study or MLflow.
    """
    # Ray reads it during the import.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray: needs Ray (pip install 'medmrcnn[ray]'); expected processes without") from error
    own = _join(ray, options.ray_address)
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        check_reach({node["NodeManagerAddress"] for node in nodes}, storage, tracking)
        gpus = options.gpus_per_worker
        if gpus is None:
            gpus = float(any(node["Resources"].get("GPU") for node in nodes))
        check_resources([node["Resources"] for node in nodes], options, gpus, may_grow=not own)
        actors = ray.remote(Host).options(
            num_cpus=options.cpus_per_worker,
            num_gpus=gpus,
            max_concurrency=2,  # one call waits for the worker while another reads its output
            scheduling_strategy="SPREAD",
        )
        # All other variables remain those of the machine of the worker.
        settings = {
            name: value
            for name, value in os.environ.items()
            if (name.startswith("MLFLOW_") and name != "MLFLOW_RUN_ID") or name == "KERAS_BACKEND"
        }
        settings |= {"MLFLOW_TRACKING_URI": tracking, **dict.fromkeys(THREADS, str(options.cpus_per_worker))}

        def start(job: Path, log: Path) -> Process:
            return Remote(actors.remote(job.read_text(encoding="utf-8"), settings, os.getcwd()), log)

        yield start
    finally:
        ray.shutdown()


def _join(ray: Any, address: str | None) -> bool:
    """Connect to the cluster; return True if it was started here."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            with suppress(ConnectionError):
                ray.init("auto", **quiet)
                return False
        own = address in (None, "local")
        if address is not None and not own and address != "auto":
            _check_port(address)
        ray.init("local" if own else address, **({"include_dashboard": False} if own else {}), **quiet)
        return own
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise InputError(f"--ray_address {address or 'null'}: expected a running cluster: {_line(error)}") from error
    finally:
        # Ray replaces the handler; then SIGTERM would not end runs and trials.
        signal.signal(signal.SIGTERM, before)


def _check_port(address: str) -> None:
    """Raise OSError or ValueError if the port is closed, because Ray tries for minutes."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    if not (parts.hostname and parts.port):
        raise ValueError("expected host:port, auto or local")
    socket.create_connection((parts.hostname, parts.port), ANSWER).close()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def check_reach(machines: set[str], storage: str, tracking: str) -> None:
    """Refuse addresses that only one of several machines can reach.

    Raises:
        InputError: names the option or variable and what is expected.
    """
    if len(machines) < 2:
        return
    several = f"expected, on a cluster of {len(machines)} machines,"
    for name, address, wanted in (
        ("--storage", storage, "a database that all reach, such as postgresql+psycopg://user@host/sweeps"),
        ("MLFLOW_TRACKING_URI", tracking, "a server that all reach, such as http://host:5000"),
    ):
        parts = urlsplit(address)
        if parts.scheme in ("", "file", "sqlite") or (parts.hostname or "localhost") in LOOPBACK:
            raise InputError(f"{name} {hide_credentials(address)}: {several} {wanted}")


def check_resources(nodes: Sequence[dict[str, float]], options: SweepOptions, gpus: float, *, may_grow: bool) -> None:
    """Refuse workers that exceed every node of the cluster, unless it may grow.

    Raises:
        InputError: names what a worker requests and what the nodes have.
    """
    fits = any(node.get("CPU", 0) >= options.cpus_per_worker and node.get("GPU", 0) >= gpus for node in nodes)
    if fits or may_grow:
        return
    there = "; ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
    asked = f"{counted(options.cpus_per_worker, 'core')} and {gpus:g} GPUs"
    raise InputError(f"--cpus_per_worker, --gpus_per_worker: {asked} are on no node of the cluster, which has {there}")


class Host:
    """Run one worker process on the machine that Ray has chosen, as an actor.

    Its working folder is `folder`, that of the sweep, if it exists there, because paths can be relative.
    """

    def __init__(self, job: str, settings: dict[str, str], folder: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="medmrcnn-")
        (file := Path(self._folder.name, "job.json")).write_text(job, encoding="utf-8")
        self._log = Path(self._folder.name, "log")
        self._process = launch(file, self._log, settings, folder if os.path.isdir(folder) else None)

    def wait(self) -> int:
        return self._process.wait()

    def said(self, start: int) -> bytes:
        """Return the output of the worker from byte `start` on."""
        with open(self._log, "rb") as file:
            file.seek(start)
            return file.read()

    def stop(self) -> None:
        self._process.terminate()


class Remote:
    """A worker in an actor with the interface of a subprocess; see `sweeps.processes.Process`."""

    def __init__(self, actor: Any, log: Path) -> None:
        import ray

        self.returncode: int | None = None
        self._ray, self._actor, self._log = ray, actor, log
        self._ended = actor.wait.remote()
        self._read, self._reading, self._begun = 0, actor.said.remote(0), False

    def poll(self) -> int | None:
        if self.returncode is None and not self._is_ready(self._ended, 0):
            with suppress(self._ray.exceptions.RayError):  # the next call reports that it has ended
                self._copy_output(0)
        elif self.returncode is None:
            self._end()
        return self.returncode

    def _is_ready(self, answer: Any, timeout: float | None) -> bool:
        return bool(self._ray.wait([answer], timeout=timeout)[0])

    def _copy_output(self, timeout: float) -> None:
        """Append new output of the worker to the log, and request more."""
        if self._is_ready(self._reading, timeout):
            self._write(self._ray.get(self._reading))
            self._begun = True
            self._reading = self._actor.said.remote(self._read)

    def _write(self, said: bytes) -> None:
        self._read += len(said)
        with open(self._log, "ab") as file:
            file.write(said)

    def _end(self) -> None:
        try:
            status = self._ray.get(self._ended)
            for _ in range(2):  # the pending answer may be older than the end
                self._copy_output(ANSWER)
        except self._ray.exceptions.RayError as error:
            self._write(f"worker lost: {_line(error)}\n".encode())
            status = REPLACE if self._begun else NOT_STARTED
        self.returncode = status
        self._ray.kill(self._actor)

    def terminate(self) -> None:
        if self.poll() is not None:
            return
        if self._begun:
            self._actor.stop.remote()
        else:
            self.kill()  # it may be waiting for free resources

    def kill(self) -> None:
        """End the actor; its worker ends with it."""
        self._ray.kill(self._actor)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the worker and return its exit status; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is None and not self._is_ready(self._ended, timeout):
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        status = self.poll()
        assert status is not None  # it is ready
        return status
