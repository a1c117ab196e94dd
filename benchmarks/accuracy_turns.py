"""Report the validations of a training to `benchmarks.time_to_accuracy`; the peer's Python imports this module too."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import psutil

from benchmarks.speed_turns import open_answers


class Reporter:
    """Answer each request of a `speed_turns.Worker` with a validation, and stop the clock meanwhile.

    The time of the training includes all since `started`, a time of the epoch: imports, data, compilation.
    """

    def __init__(self, started: float) -> None:
        self._answers = open_answers()
        sys.stdin.readline()
        self._started, self._first = started, 0.0
        self._paused = [0.0, 0.0]

    def elapsed(self) -> list[float]:
        """Return the seconds and the processor seconds, those of child processes included, without validations."""
        process = psutil.Process()
        used = 0.0
        for each in (process, *process.children(recursive=True)):
            try:
                used += sum(each.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue
        return [time.time() - self._started - self._paused[0], used - self._paused[1]]

    def step_done(self) -> None:
        """Note the time of the first step."""
        self._first = self._first or self.elapsed()[0]

    def report(self, steps: int, predict: Callable[[], list[dict]], *, last: bool = False) -> bool:
        """Report the COCO results that `predict` returns after so many steps; return whether to go on."""
        before = self.elapsed()
        answer = {"steps": steps, "first": self._first, "elapsed": before, "results": predict(), "last": last}
        print(json.dumps(answer), file=self._answers, flush=True)
        more = bool(sys.stdin.readline())
        self._paused = [part + now - then for part, now, then in zip(self._paused, self.elapsed(), before, strict=True)]
        return more
