"""Kill a process that saves a checkpoint after each step at random moments, and resume: `FOLDER KILLS SEED`.

Prints the number of kills, how many of them were during a save, and the checkpoints found damaged.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from trackers.checkpoints.checkpoint_store import BEING_WRITTEN, CheckpointStore


def step(number, values):
    """Chaotic, so that a difference in the last bit would grow."""
    return np.sin(values * 3.7 + number)


def read(found):
    return np.frombuffer(found.model.read_bytes())


def train(states):
    found, _ = states.newest()
    number, values = (0, np.arange(1 << 14, dtype=np.float64)) if found is None else (found.epoch, read(found))
    while True:
        number, values = number + 1, step(number, values)
        states.save(number, lambda path, saved=values: path.write_bytes(saved.tobytes()), {"number": number})


def main(folder, kills, seed):
    states, rng = CheckpointStore(folder), random.Random(seed)
    damaged, writing = [], 0
    for _ in range(kills):
        child = os.fork()
        if not child:
            train(states)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        writing += (folder / BEING_WRITTEN).exists()
        damaged += states.newest()[1]
    found, _ = states.newest()
    values = np.arange(1 << 14, dtype=np.float64)
    for number in range(found.epoch):
        values = step(number, values)
    print(json.dumps({
        "kills": kills, "while_writing": writing, "damaged": damaged, "steps": found.epoch,
        "equal": values.tobytes() == read(found).tobytes(),
    }))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
