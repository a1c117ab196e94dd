"""Measure how time and memory grow with the size of the work.

    python -m benchmarks.growth [--part steps loading] [--turns 5]

Prints Markdown tables:

- steps: a training step and an inference of the default network (small backbone) against image side, batch, true
  instances in an image and sampled regions, one varied at a time; each row runs in its own process, for its own
  first step and peak memory;
- loading: a COCO file of 1,000 … 100,000 polygon annotations, 20 an image, read and checked.

For evaluation: `python -m benchmarks.evaluation`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.speed_setup import describe_machine, peak_memory

DEFAULT = {"size": 256, "batch": 4, "instances": 4, "regions": 128}
VARIED = {
    "size": (128, 256, 512, 1024),
    "batch": (1, 4, 8),
    "instances": (0, 4, 64, 256),
    "regions": (32, 128, 512),
}
ANNOTATIONS = (1_000, 10_000, 100_000)
PER_IMAGE = 20
IMAGE_SIDE = 512


def measure_step(size: int, batch: int, instances: int, regions: int, turns: int) -> dict[str, float]:
    """Measure the seconds of the first and of a later training step, of an inference, and the peak memory in GiB."""
    from mrcnn import MaskRCNN, ModelConfig, Sample, make_batch

    rng = np.random.default_rng(0)
    config = ModelConfig(
        class_names=("iso", "hypo"),
        image_size=size,
        backbone="small",
        fpn_channels=128,
        head_width=256,
        mask_channels=128,
        max_instances=max(instances, 1),
        roi_samples=regions,
    )
    samples = []
    for _ in range(batch):
        masks = np.zeros((instances, size, size), bool)
        for mask in masks:
            x, y = rng.integers(0, size - size // 8, 2)
            mask[y : y + size // 8, x : x + size // 8] = True
        image = rng.integers(0, 256, (size, size, 3), np.uint8)
        samples.append(Sample(image, masks, np.ones(instances, np.int32), patient_id="noise", source="noise"))
    model = MaskRCNN(config)
    model.compile(optimizer="sgd")
    prepared = make_batch(samples, config)

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def train() -> None:
        if not math.isfinite(model.train_on_batch(prepared, return_dict=True)["loss"]):
            raise ArithmeticError("the loss is not finite")

    def detect() -> None:
        model.detect([sample.image for sample in samples], batch_size=batch)

    first = seconds(train)
    train_seconds = median(seconds(train) for _ in range(turns))
    peak = peak_memory() / 2**30
    detect()
    return {
        "first": first,
        "train": train_seconds,
        "inference": median(seconds(detect) for _ in range(turns)),
        "peak": peak,
    }


def print_steps(turns: int) -> None:
    print(
        "| varied | size | batch | instances | regions | first step, s | training step, s | inference, s | peak, GiB |"
    )
    print(
        "| :----- | ---: | ----: | --------: | ------: | ------------: | ---------------: | -----------: | --------: |"
    )
    for varied, values in VARIED.items():
        for value in values:
            work = DEFAULT | {varied: value}
            command = [sys.executable, "-m", "benchmarks.growth", "--one", json.dumps(work | {"turns": turns})]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {varied} | {work['size']} | {work['batch']} | {work['instances']} | {work['regions']} "
                f"| {found['first']:.1f} | {found['train']:.3f} | {found['inference']:.3f} | {found['peak']:.2f} |",
                flush=True,
            )


def write_annotations(folder: Path, count: int) -> None:
    """Write a COCO data set of `count` twelve-sided polygons on blank images."""
    from PIL import Image

    rng = np.random.default_rng(0)
    images = math.ceil(count / PER_IMAGE)
    blank = Image.new("L", (IMAGE_SIDE, IMAGE_SIDE))
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    annotations = []
    for number in range(count):
        center, radius = rng.uniform(60, IMAGE_SIDE - 60, 2), rng.uniform(5, 50)
        points = np.round(center + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), 2)
        annotations.append(
            {
                "id": number + 1,
                "image_id": number // PER_IMAGE + 1,
                "category_id": 1,
                "segmentation": [points.ravel().tolist()],
                "iscrowd": 0,
            }
        )
    entries = []
    for number in range(1, images + 1):
        name = f"{number:06d}.png"
        blank.save(folder / name)
        entries.append(
            {"id": number, "file_name": name, "height": IMAGE_SIDE, "width": IMAGE_SIDE, "patient_id": str(number)}
        )
    content = {"images": entries, "annotations": annotations, "categories": [{"id": 1, "name": "blob"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def print_loading() -> None:
    from mrcnn import read_dataset

    print("| annotations | images | read and checked, s |\n| ----------: | -----: | ------------------: |")
    for count in ANNOTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            write_annotations(Path(folder), count)
            start = time.perf_counter()
            data = read_dataset(folder)
            seconds = time.perf_counter() - start
            assert sum(len(record.class_ids) for record in data.records) == count
            print(f"| {count:,} | {len(data):,} | {seconds:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=("steps", "loading"), default=["steps", "loading"])
    parser.add_argument("--turns", type=int, default=5, help="repetitions of each row, default 5")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure_step(**arguments.one)))
        return
    print(*describe_machine(), "", sep="\n")
    if "steps" in arguments.part:
        print_steps(arguments.turns)
        print()
    if "loading" in arguments.part:
        print_loading()


if __name__ == "__main__":
    main()
