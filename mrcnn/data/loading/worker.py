"""A worker process of a loader: `python -m mrcnn.data.loading.worker`, spoken to over its standard input and output.

A program of its own rather than `multiprocessing`, whose children import the main module again, and with it the
deep-learning framework. It ends when its standard input does, so none outlives its parent, however that ended.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import BinaryIO

from mrcnn.data.loading.ipc import send


def serve(tasks: BinaryIO, results: BinaryIO) -> None:
    """Reads a recipe, the worker's number and how many there are, then tasks (epoch, indices), and answers each."""
    recipe = pickle.load(tasks)
    recipe.cache.use_part(*pickle.load(tasks))
    while True:
        task = pickle.load(tasks)
        try:
            answer = recipe.make(*task)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
            error.add_note(f"In a worker process of the loader:\n{traceback.format_exc()}")
            answer = error
        send(results, answer)


def main() -> None:
    if hasattr(os, "nice"):
        # The network's threads wait for one another at each operation, so a core taken from one of them is lost to all.
        os.nice(10)
    with os.fdopen(os.dup(1), "wb") as results:
        os.dup2(2, 1)  # what a library may print must not get between the batches
        try:
            serve(sys.stdin.buffer, results)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            os._exit(0)  # the parent is gone or wants no more


if __name__ == "__main__":
    main()
