"""Test whether the memory of a long training grows with the epochs.

    python -m benchmarks.soak [--epochs 200] [--folder <where its files stay>]

Runs a real `mrcnn train` on a few thyroid phantoms with a tiny network, 64 pixels, and all default features: a worker
process, augmentation, validation, checkpoints after each epoch, TensorBoard, MLflow on SQLite, system metrics. Prints a
Markdown table of the resident memory of the training process and of its worker (median of the last five epochs), and
exits with 1 if either grew by more than 5 % between a tenth of the epochs and the last one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.speed_setup import describe_machine
from mrcnn.phantoms import write_dataset

IMAGES = 20
MOST_GROWTH = 0.05
SMOOTHED = 5
"""Epochs whose median is taken: what is held for a moment, as a picture being drawn, is no growth."""
TINY = {
    "backbone": "small", "image_size": 64, "fpn_channels": 16, "head_width": 32, "mask_channels": 16,
    "mask_convolutions": 1,
    "rpn_samples": 32, "proposals_per_level": 20, "proposals": 30, "roi_samples": 16, "max_detections": 10,
    "score_threshold": 0.01, "batch_size": 2, "workers": 1, "resamples": 20, "overlays": 1,
}  # fmt: skip
MIB = 2**20


def memory(epochs: int, folder: Path) -> list[tuple[int, int]]:
    """Measure the bytes of the training process and of its children after each epoch."""
    dataset = write_dataset("thyroid", folder / "nodules", images=IMAGES, seed=0)
    words = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MRCNN_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "experiments.commands.train", "--task", "thyroid", "--dataset", str(dataset)]
    command += ["--epochs", str(epochs), *words]
    found = []
    with (
        open(folder / "train.log", "w", encoding="utf-8") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as training,
    ):
        process = psutil.Process(training.pid)
        for line in training.stdout:
            log.write(line)
            log.flush()
            if re.match(rf"epoch \d+/{epochs}  ", line):
                found.append((resident([process]), resident(process.children(recursive=True))))
    if training.returncode:
        raise RuntimeError(f"the training ended with status {training.returncode}; see {folder / 'train.log'}")
    if len(found) != epochs:
        raise RuntimeError(f"{len(found)} epochs seen, expected {epochs}; see {folder / 'train.log'}")
    return found


def resident(processes: list[psutil.Process]) -> int:
    """Measure the resident memory of the processes in bytes; shared memory counts for each."""
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="new or empty; default: one that is removed at the end")
    options = parser.parse_args(arguments)
    if options.epochs < 50:
        parser.error(f"--epochs {options.epochs}: expected 50 or more")
    rows = sorted({options.epochs * share // 20 for share in (2, 5, 10, 15, 20)})
    print(*describe_machine(), sep="\n", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as passing:
        folder = options.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        found = memory(options.epochs, folder.resolve())
    minutes = (time.monotonic() - started) / 60
    print(f"{options.epochs} epochs, {minutes:.0f} min", end="\n\n")
    print("| after epoch | training, MiB | change | worker, MiB | change |", "|" + "---|" * 5, sep="\n")
    first, change = None, (0.0, 0.0)
    for epoch in rows:
        held = [median(column) for column in zip(*found[epoch - SMOOTHED : epoch], strict=True)]
        first = first or held
        change = tuple(now / before - 1 for now, before in zip(held, first, strict=True))
        cells = [f"{size / MIB:.1f} | {grown:+.1%}" for size, grown in zip(held, change, strict=True)]
        print(f"| {epoch} | {' | '.join(cells)} |")
    return int(max(change) > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
