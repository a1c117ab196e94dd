"""Measure the evaluation time of 1,000 images of 512×512 pixels, with 20 instances and about 30 detections each.

    python -m benchmarks.evaluation [--images 1000]

Prints a table of seconds; the goal is 60 s in total on 2 cores. Generating the images is not timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed_setup import peak_memory
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics.evaluator import Evaluator

SIDE = 512
INSTANCES = 20
FALSE_POSITIVES = 8
CLASS_NAMES = ("iso", "hypo")


def make_pair(rng: np.random.Generator, number: int) -> tuple[Sample, Detections]:
    """Generate ellipses, and detections that are shifted and scaled by about a tenth, with false positives."""
    centers = rng.uniform(20, SIDE - 20, (INSTANCES + FALSE_POSITIVES, 2))
    radii = rng.uniform(5, 45, (INSTANCES + FALSE_POSITIVES, 2))
    class_ids = rng.integers(1, len(CLASS_NAMES) + 1, len(radii)).astype(np.int32)
    truth, _ = ellipses(centers[:INSTANCES], radii[:INSTANCES])
    moved = centers + rng.normal(0, 0.1, radii.shape) * radii
    found, boxes = ellipses(moved, radii * rng.uniform(0.85, 1.15, radii.shape))
    scores = np.concatenate([rng.beta(5, 2, INSTANCES), rng.beta(2, 5, FALSE_POSITIVES)]).astype(np.float32)
    sample = Sample(
        image=np.zeros((SIDE, SIDE, 1), np.uint8),
        masks=truth,
        class_ids=class_ids[:INSTANCES],
        patient_id=f"patient {number // 3}",
        source=f"{number}.png",
        spacing_mm=(0.2, 0.2),
    )
    order = np.argsort(-scores)
    return sample, Detections(boxes[order], scores[order], class_ids[order], found[order])


def ellipses(centers: np.ndarray, radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute masks (N, SIDE, SIDE) bool and boxes (N, 4) of axis-parallel ellipses."""
    axis = np.arange(SIDE)
    rows = ((axis - centers[:, :1]) / radii[:, :1]) ** 2
    columns = ((axis - centers[:, 1:]) / radii[:, 1:]) ** 2
    low, high = (centers - radii).clip(0, SIDE), (centers + radii).clip(0, SIDE)
    boxes = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1).astype(np.float32)
    return rows[:, :, None] + columns[:, None, :] <= 1, boxes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    images = parser.parse_args().images

    rng = np.random.default_rng(0)
    evaluator = Evaluator(CLASS_NAMES)
    make_pair(rng, -1)  # so that the memory of one image at work is not counted
    start_memory = peak_memory()
    seconds = {"add": 0.0}
    for number in range(images):
        pair = make_pair(rng, number)
        start = time.perf_counter()
        evaluator.add(*pair)
        seconds["add"] += time.perf_counter() - start
    grown = peak_memory() - start_memory

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        return result

    confidence = timed("best_confidence", evaluator.best_confidence)
    summary = timed("summary (AP, Dice, HD95, FROC)", lambda: evaluator.summary(confidence))
    timed(
        "per_case and curves", lambda: (evaluator.per_case(confidence), evaluator.pr_curves(), evaluator.froc_curve())
    )
    total = sum(seconds.values())
    timed("intervals (1,000 resamples)", lambda: evaluator.intervals(confidence))

    print(f"{images} images of {SIDE}×{SIDE}, {INSTANCES} instances, {INSTANCES + FALSE_POSITIVES} detections each")
    for name, value in seconds.items():
        print(f"  {name:<32} {value:7.2f} s")
    print(f"  {'all but intervals':<32} {total:7.2f} s")
    print(f"  memory held by the added images: {grown / 2**20:.0f} MiB")
    shown = ("mask_ap", "mask_ap50", "box_ap50", "dice", "hd95", "froc")
    print("  " + ", ".join(f"{name} {summary[name]:.3f}" for name in shown))


if __name__ == "__main__":
    main()
