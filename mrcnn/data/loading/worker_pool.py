"""The worker processes of a loader."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

from mrcnn.data.loading.batch_builder import BatchBuilder
from mrcnn.data.loading.ipc import receive
from mrcnn.data.transforms.encoding import Batch

Task = tuple[int, Sequence[int]]

_LONGEST_END = 5.0  # seconds that killed processes may take to end; one that waits for a dead disk never does
_AHEAD = 2  # batches asked of a worker at a time: one in the making, one that waits to be taken
# One thread each, since the number of workers says how many cores to use.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")}


class WorkerPool:
    """Processes that make the batches of a recipe, until `close`, or until this object or the program ends."""

    def __init__(self, recipe: BatchBuilder, workers: int) -> None:
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        self._recipe: bytes | None = pickle.dumps(recipe)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "mrcnn.data.loading.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=recipe.cache.descriptors,
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the program, which ends its workers itself
            )
            for _ in range(workers)
        ]
        self.close = weakref.finalize(self, _end, self._processes)

    def batches(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        """The batch of each task (epoch, indices), in order. What a worker raises is raised here.

        To be iterated to its end, or the crew closed.
        """
        if self._recipe is not None:
            for number, process in enumerate(self._processes):
                _write(process, self._recipe + pickle.dumps((number, len(self._processes))))
            self._recipe = None
        asked: deque[subprocess.Popen] = deque()
        for process, task in zip(cycle(self._processes), tasks, strict=False):
            if len(asked) == _AHEAD * len(self._processes):
                yield _take(asked.popleft())
            _write(process, pickle.dumps(task))
            asked.append(process)
        while asked:
            yield _take(asked.popleft())


def _write(process: subprocess.Popen, message: bytes) -> None:
    try:
        process.stdin.write(message)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _lost(process) from error


def _take(process: subprocess.Popen) -> Batch:
    try:
        answer = receive(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        raise _lost(process) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _lost(process: subprocess.Popen) -> RuntimeError:
    try:
        status = process.wait(_LONGEST_END)
    except subprocess.TimeoutExpired:
        status = "unknown"
    return RuntimeError(f"a worker process of the loader ended early, with exit status {status}")


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
    end = time.monotonic() + _LONGEST_END
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue  # closing its pipes would wait for it too
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
