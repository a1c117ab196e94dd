"""What every system is timed on: the same random images, four rectangles in each, and how many detections stay.

NumPy alone: the peer's Python imports it too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SEED = 0
INSTANCES = 4
MANY_THRESHOLD = 0.001
FEW, FEW_AT_MOST = 3, 5


def make_images(size: int, batch: int) -> list[np.ndarray]:
    """`batch` images (size, size, 3) uint8 of noise."""
    rng = np.random.default_rng(SEED)
    return [rng.integers(0, 256, (size, size, 3), np.uint8) for _ in range(batch)]


def make_boxes(size: int, batch: int) -> np.ndarray:
    """Instances of each image, (batch, 4, 4) int, x1, y1, x2, y2: an eighth to a third of the side each way."""
    rng = np.random.default_rng(SEED)
    sides = rng.integers(size // 8, size // 3, (batch, INSTANCES, 2))
    corners = rng.integers(0, size - sides)
    return np.concatenate([corners, corners + sides], axis=-1)


def fill_boxes(boxes: np.ndarray, size: int) -> np.ndarray:
    """Masks (N, size, size) bool of boxes (N, 4): each box, full."""
    masks = np.zeros((len(boxes), size, size), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def few_threshold(scores: Sequence[Sequence[float]]) -> float:
    """A score threshold that leaves about 3 detections an image, and in no image more than 5.

    Args:
        scores: of each image's detections, in any order.

    Raises:
        ValueError: there is nothing to choose between, as with fewer detections than that.
    """
    pooled = sorted((score for image in scores for score in image), reverse=True)
    for count in range(min(FEW * len(scores), len(pooled) - 1), 0, -1):
        threshold = (pooled[count - 1] + pooled[count]) / 2
        fullest = max(sum(score >= threshold for score in image) for image in scores)
        if pooled[count - 1] > pooled[count] and fullest <= FEW_AT_MOST:
            return threshold
    raise ValueError(f"{len(pooled)} detections: expected more, of different scores")
