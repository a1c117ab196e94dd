"""Run a worker process of a loader (`python -m mrcnn.data.loading.worker`) over standard input and output.

A separate program instead of `multiprocessing`, whose child processes import the main module and with it the
deep-learning framework. It ends at the end of its standard input, so it never outlives its parent process.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import BinaryIO

from mrcnn.data.loading.worker_pool import send


def serve(tasks: BinaryIO, results: BinaryIO) -> None:
    """Read a `BatchBuilder`, number and count of workers, then tasks (epoch, indices), and send a batch for each."""
    builder = pickle.load(tasks)
    builder.cache.use_segment(*pickle.load(tasks))
    while True:
        task = pickle.load(tasks)
        try:
            answer = builder.make(*task)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
            error.add_note(f"In a worker process of the loader:\n{traceback.format_exc()}")
            answer = error
        send(results, answer)


def main() -> None:
    """Serve batches on standard output until standard input ends."""
    if hasattr(os, "nice"):
        # The threads of the network wait for each other at each operation, so they need all cores first.
        os.nice(10)
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)  # output of libraries must not mix with the batches
        try:
            serve(sys.stdin.buffer, results)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            os._exit(0)  # the parent process has ended or closed the pipe


if __name__ == "__main__":
    main()
