"""Measure how the start of the commands grows with the number of images.

    python -m benchmarks.large_datasets [--images 1000 10000 100000] [--folder DIR]

Writes PNGs of 64×64 pixels with a COCO file of one polygon an image, and prints a Markdown table of processor time and
peak memory: `mrcnn check`, `mrcnn train` up to the end of its first step (with a tiny network, whose own cost does not
depend on the images), and both again, when their caches are filled. Each number is a process of its own, with its
imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.speed_setup import describe_machine

SIDE = 64
COMMAND = "import sys; from experiments.cli import main; sys.exit(main(sys.argv[1:]))"
FIRST_STEP = """
import os, sys, keras

def fit(model, batches, **_):
    (batch,) = next(iter(batches))
    model.train_on_batch(batch)
    os._exit(0)

keras.Model.fit = fit
from experiments.cli import main
sys.exit(main(sys.argv[1:]))
"""
TINY = {
    "epochs": 1, "batch_size": 2, "workers": 0, "weights": "none", "precision": "float32", "image_size": 64,
    "backbone": "small", "model.fpn_channels": 16, "model.head_width": 32, "model.mask_channels": 16,
    "model.mask_convolutions": 1, "model.proposals": 30,
}  # fmt: skip


def write_images(folder: Path, count: int) -> None:
    """Write `count` images, each with a polygon of twelve corners."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    images, annotations = [], []
    for number in range(1, count + 1):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8)).astype(np.float32))
        pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        noisy = np.clip(pixels + rng.integers(-20, 21, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / (name := f"{number:06d}.png"), compress_level=1)
        radius = rng.uniform(4, 10)
        points = rng.uniform(radius, SIDE - radius, 2) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        images.append({"id": number, "file_name": name, "height": SIDE, "width": SIDE, "patient_id": str(number)})
        annotations.append({"id": number, "image_id": number, "category_id": 1 + number % 2,
                            "segmentation": [points.round(2).ravel().tolist()], "iscrowd": 0})  # fmt: skip
    classes = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": classes})
    )


def measure(command: list[str], working_folder: Path, cache: Path) -> tuple[float, float]:
    """Run a command; return its processor time in seconds and its peak memory in GiB."""
    with (working_folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=working_folder, stdout=output, stderr=output,
            env={**os.environ, "MRCNN_CACHE": str(cache), "PYTHONPATH": str(Path(__file__).parents[1])},
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command[-6:])}: {(working_folder / 'output.txt').read_text()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def measure_start(data: Path) -> list[tuple[float, float]]:
    """Measure `check` and `train` with an empty cache each, then both again."""
    check = [sys.executable, "-c", COMMAND, "check", str(data)]
    options = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    train = [sys.executable, "-c", FIRST_STEP, "train", "--task", "instances", "--dataset", str(data), *options]
    with tempfile.TemporaryDirectory() as scratch:
        work, *caches = (Path(scratch) / name for name in ("work", "check", "train"))
        work.mkdir()
        # The inode number and time stamps of files that are just written do not identify their content yet.
        time.sleep(2.5)
        commands = list(zip((check, train), caches, strict=True))
        return [measure(command, work, cache) for command, cache in commands * 2]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large_datasets", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where the images are kept for another run; default: nowhere")
    arguments = parser.parse_args()
    print(*describe_machine(), "", sep="\n")
    works = ("check", "train to first step", "check again", "train again")
    print("| images |", " | ".join(f"{work}: processor s | GiB" for work in works), "|")
    print("| ---: |", " | ".join(["---: | ---:"] * len(works)), "|")
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.images:
            data = (arguments.folder or Path(scratch)) / f"images-{count}"
            if not data.exists():
                data.mkdir(parents=True)
                write_images(data, count)
            found = measure_start(data)
            print(f"| {count:,} |", " | ".join(f"{seconds:.1f} | {gib:.2f}" for seconds, gib in found), "|", flush=True)


if __name__ == "__main__":
    main()
