"""Start worker processes of a loader and distribute batches among them.

Nothing imports `worker`, the program of these processes: `python -m` warns about modules already imported.
"""

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
from io import BufferedReader
from itertools import cycle
from typing import BinaryIO

import numpy as np

from mrcnn.data.loading.batch_builder import BatchBuilder
from mrcnn.data.transforms.encoding import Batch

Task = tuple[int, Sequence[int]]

_SHUTDOWN_SECONDS = 5.0  # wait for killed processes; one that waits for a dead disk may never end
_QUEUE_SIZE = 2  # batches requested per worker: one in progress, one ready
# One thread per worker, since the number of workers determines the number of cores.
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")}


class WorkerPool:
    """Build batches in worker processes, until `close`, garbage collection or the end of the program."""

    def __init__(self, builder: BatchBuilder, workers: int) -> None:
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        self._builder: bytes | None = pickle.dumps(builder)
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-P", "-m", "mrcnn.data.loading.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=builder.cache.descriptors,
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C reaches only the program, which ends its workers
            )
            for _ in range(workers)
        ]
        self.close = weakref.finalize(self, _end, self._processes)

    def batches(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        """Yield the batch of each task (epoch, indices), in order. Raises errors of the workers.

        Iterate to the end, or close the pool.
        """
        if self._builder is not None:
            for number, process in enumerate(self._processes):
                _write(process, self._builder + pickle.dumps((number, len(self._processes))))
            self._builder = None
        pending: deque[subprocess.Popen] = deque()
        for process, task in zip(cycle(self._processes), tasks, strict=False):
            if len(pending) == _QUEUE_SIZE * len(self._processes):
                yield _read(pending.popleft())
            _write(process, pickle.dumps(task))
            pending.append(process)
        while pending:
            yield _read(pending.popleft())


def send(stream: BinaryIO, message: Batch | Exception) -> None:
    """Write a batch, with its arrays as raw bytes, or an error."""
    if isinstance(message, Exception):
        pickle.dump(message, stream)
    else:
        pickle.dump([(name, array.dtype.str, array.shape) for name, array in message.items()], stream)
        for array in message.values():
            stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: BufferedReader) -> Batch | Exception:
    """Read a message of `send`. Raises `EOFError` or `pickle.UnpicklingError` if the sender has ended."""
    header = pickle.load(stream)
    if isinstance(header, Exception):
        return header
    batch = {name: np.empty(shape, dtype) for name, dtype, shape in header}
    for array in batch.values():
        if stream.readinto(array.reshape(-1).view(np.uint8)) != array.nbytes:
            raise EOFError
    return batch


def _write(process: subprocess.Popen, message: bytes) -> None:
    assert process.stdin is not None  # a pipe
    try:
        process.stdin.write(message)
        process.stdin.flush()
    except BrokenPipeError as error:
        raise _worker_error(process) from error


def _read(process: subprocess.Popen) -> Batch:
    assert isinstance(process.stdout, BufferedReader)  # a pipe
    try:
        answer = receive(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        raise _worker_error(process) from error
    if isinstance(answer, Exception):
        raise answer
    return answer


def _worker_error(process: subprocess.Popen) -> RuntimeError:
    try:
        status = process.wait(_SHUTDOWN_SECONDS)
    except subprocess.TimeoutExpired:
        status = "unknown"
    return RuntimeError(f"a worker process of the loader ended early, with exit status {status}")


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
    end = time.monotonic() + _SHUTDOWN_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue  # closing its pipes would also wait for it
        for pipe in (process.stdout, process.stdin):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
