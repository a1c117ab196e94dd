"""Generate the benchmark images, choose score thresholds, and describe the machine.

The peers' Python imports this module too: it needs NumPy alone.
"""

from __future__ import annotations

import datetime
import os
import platform
import resource
import sys
from collections.abc import Sequence
from importlib import metadata

import numpy as np

SEED = 0
INSTANCES = 4
MANY_THRESHOLD = 0.001
FEW, FEW_AT_MOST = 3, 5
MATRIX_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
LIBRARIES = ("tensorflow", "keras", "jax", "numpy")


def make_images(size: int, batch: int) -> list[np.ndarray]:
    """Generate `batch` noise images (size, size, 3) uint8."""
    rng = np.random.default_rng(SEED)
    return [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(batch)]


def make_boxes(size: int, batch: int) -> np.ndarray:
    """Draw instances (batch, 4, 4) int, x1, y1, x2, y2, with sides of an eighth to a third of the image side."""
    rng = np.random.default_rng(SEED)
    sides = rng.integers(size // 8, size // 3, (batch, INSTANCES, 2))
    corners = rng.integers(0, size - sides)
    return np.concatenate([corners, corners + sides], axis=-1)


def fill_boxes(boxes: np.ndarray, size: int) -> np.ndarray:
    """Compute masks (N, size, size) bool that fill the boxes (N, 4)."""
    masks = np.zeros((len(boxes), size, size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def few_threshold(scores: Sequence[Sequence[float]]) -> float:
    """Choose a score threshold with about 3 detections per image, and at most 5 in each.

    Args:
        scores: scores of the detections of each image, in any order.

    Raises:
        ValueError: there are too few different scores.
    """
    pooled = sorted((score for image in scores for score in image), reverse=True)
    for count in range(min(FEW * len(scores), len(pooled) - 1), 0, -1):
        threshold = (pooled[count - 1] + pooled[count]) / 2
        fullest = max(sum(score >= threshold for score in image) for image in scores)
        if pooled[count - 1] > pooled[count] and fullest <= FEW_AT_MOST:
            return threshold
    raise ValueError(f"{len(pooled)} detections: expected more, of different scores")


def describe_machine() -> list[str]:
    """Return the lines above a table: date, processor, load, and library versions."""
    # Not at the top: the worker of matterport's package, also named mrcnn, imports this module.
    from mrcnn.processor import cpu_info

    model, all_flags = cpu_info()
    flags = [flag for flag in MATRIX_FLAGS if flag in all_flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    libraries = [f"{name} {metadata.version(name)}" for name in LIBRARIES if _installed(name)]
    return [
        f"{datetime.date.today():%Y-%m-%d}, {platform.system()}, Python {platform.python_version()}",
        f"{model}, {cores} cores, {', '.join(flags) or 'matrix instructions not known'}, "
        f"load {os.getloadavg()[0]:.1f} at the start",
        ", ".join(libraries),
    ]


def peak_memory() -> int:
    """Return the peak memory of this process in bytes."""
    # The unit is a KiB on Linux and a byte on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
