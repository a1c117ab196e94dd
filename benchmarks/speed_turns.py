"""Run worker processes that take turns: a JSON request per line on stdin, a JSON response per line on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parent.parent
LAST_LINES = 12
GOODBYE_SECONDS = 30


class WorkerFailed(Exception):
    """A worker ended before its response; the message has the last lines of its stderr."""


def serve(make: Callable[[], object]) -> None:
    """Answer requests with the methods of the object that `make` returns, until stdin ends.

    A request is {"do": method, argument: value, …}; the answer is what the method returns.
    """
    answers = open_answers()
    served = make()
    for line in sys.stdin:
        request = json.loads(line)
        answer = getattr(served, request.pop("do"))(**request)
        print(json.dumps(answer), file=answers, flush=True)


def open_answers() -> TextIO:
    """Open stdout for the answers alone: whatever a library prints goes to stderr, not between them."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


class Worker:
    """Run `python -m <module> <settings as JSON>` and send requests to it; a context manager that ends the process."""

    def __init__(
        self, module: str, settings: dict, *, python: str = sys.executable, environment: dict | None = None
    ) -> None:
        # A python in a virtual environment that nobody activated still needs the programs installed beside it.
        path = os.pathsep.join([os.path.dirname(python), os.environ.get("PATH", "")])
        self.name = module
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed at exit
        self._process = subprocess.Popen(
            [python, "-m", module, json.dumps(settings)],
            cwd=ROOT,
            env={**os.environ, "PATH": path, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict:
        """Send a request and wait for the response.

        Raises:
            WorkerFailed: the process ended instead.
        """
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").splitlines()[-LAST_LINES:]
            raise WorkerFailed("\n  ".join([f"{self.name} ended with status {status} when asked to {do}:", *lines]))
        return json.loads(line)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            try:
                self._process.communicate(timeout=GOODBYE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._stderr.close()
