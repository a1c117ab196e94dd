"""Generate the anchor grid of the region proposal network and fit anchor sizes to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mrcnn.config import STRIDES, ModelConfig


def anchor_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Return width and height (sizes · ratios, 2) float32 of anchors with area size² and height / width = ratio.

    Example:
        >>> anchor_shapes([8.0], [0.25, 1.0, 4.0]).tolist()
        [[16.0, 4.0], [8.0, 8.0], [4.0, 16.0]]
    """
    return np.array(
        [(size / np.sqrt(ratio), size * np.sqrt(ratio)) for size in sizes for ratio in ratios], dtype=np.float32
    )


def anchor_grid(config: ModelConfig) -> np.ndarray:
    """Return all anchors (A, 4) float32 in network pixels, ordered by level, row, column, size and ratio.

    Every anchor is centered on its cell: the center of cell (0, 0) at stride 4 is pixel (2, 2).

    Example:
        >>> from mrcnn.config import ModelConfig
        >>> sizes = ((4,), (8,), (16,), (32,), (64,))
        >>> config = ModelConfig(class_names=("nodule",), image_size=64, anchor_sizes=sizes, anchor_ratios=(1.0,))
        >>> grid = anchor_grid(config)
        >>> len(grid)  # 16² + 8² + 4² + 2² + 1²
        341
        >>> grid[[0, 1, 16, -1]].tolist()
        [[0.0, 0.0, 4.0, 4.0], [4.0, 0.0, 8.0, 4.0], [0.0, 4.0, 4.0, 8.0], [0.0, 0.0, 64.0, 64.0]]
    """
    levels = []
    for stride, grid, sizes in zip(STRIDES, config.grid_sizes, config.anchor_sizes, strict=True):
        half = anchor_shapes(sizes, config.anchor_ratios) / 2
        y, x = np.meshgrid(*((np.arange(cells, dtype=np.float32) + 0.5) * stride for cells in grid), indexing="ij")
        xy = np.stack([x, y], axis=-1)[:, :, None, :]
        levels.append(np.concatenate([xy - half, xy + half], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


GOOD_IOU = 0.5
MAX_BOXES = 5000
"""Larger box sets are subsampled evenly: the quantiles stay the same and the search takes less than a second."""


@dataclass(frozen=True)
class AnchorFit:
    """Fitted anchors and their coverage of the boxes used for the fit.

    Attributes:
        sizes: for each of P2 … P6 a tuple of sizes in pixels, the square roots of the areas.
        ratios: height / width.
        mean_best_iou: mean over boxes of the IoU with the best anchor of the grid.
        recall: fraction of boxes whose best anchor has an IoU of at least 0.5.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    mean_best_iou: float
    recall: float


def best_iou(boxes: np.ndarray, sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> np.ndarray:
    """Return the IoU (N,) float64 of each box (N, 4) with the best anchor of the grid of `sizes` and `ratios`.

    Among anchors of one shape the nearest cell has the highest IoU, so only that cell of each level is evaluated.

    Args:
        boxes: (N, 4) in network pixels.
        sizes: for each of P2 … P6 its anchor sizes.
        ratios: height / width.

    Example:
        >>> best_iou(np.array([[0.0, 0, 4, 4], [0, 0, 4, 8]]), [[4], [8], [16], [32], [64]], [1.0]).tolist()
        [1.0, 0.5]
    """
    center, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    best = np.zeros(len(boxes))
    for stride, level_sizes in zip(STRIDES, sizes, strict=True):
        offset = np.abs(center - (np.floor(center / stride) + 0.5) * stride)[:, None]
        shapes = anchor_shapes(level_sizes, ratios).astype(np.float64)[None]
        overlap = np.minimum(np.minimum(sides[:, None], shapes), (sides[:, None] + shapes) / 2 - offset)
        overlap = np.maximum(overlap, 0).prod(-1)
        iou = overlap / (sides.prod(-1)[:, None] + shapes.prod(-1) - overlap)
        best = np.maximum(best, iou.max(-1))
    return best


def fit_anchors(boxes: np.ndarray, *, ratio_count: int = 3) -> AnchorFit | None:
    """Fit one anchor size per level and `ratio_count` ratios to `boxes` (N, 4) in network pixels.

    The sizes of the first levels are spaced evenly over the logarithms of the box sizes; each further level doubles
    the size of the level before. The ratios are quantiles of the box ratios. A grid search selects the number of
    levels and the quantiles with the highest mean IoU on the actual grid. A large stride with small anchors scores
    low there, because its cells are too far apart.

    Returns:
        The fit, or None for fewer than two boxes with a positive area.

    Example:
        >>> fit = fit_anchors(np.array([[0, 0, 8, 16], [0, 0, 16, 32], [0, 0, 32, 64]]))
        >>> fit.ratios, round(fit.recall, 3)  # the anchor on the nearest cell misses one of three boxes
        ((2.0, 2.0, 2.0), 0.667)
    """
    boxes = np.asarray(boxes, np.float64)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
    if len(boxes) < 2:
        return None
    boxes = boxes[:: -(-len(boxes) // MAX_BOXES)]
    sides = boxes[:, 2:] - boxes[:, :2]
    log_sizes = np.log(np.sqrt(sides.prod(-1)))
    log_ratios = np.log(sides[:, 1] / sides[:, 0])
    best = None
    for levels, tail, ratio_tail in product((2, 3, 4, 5), (2, 10, 20), (5, 15, 25)):
        low, high = np.percentile(log_sizes, (tail, 100 - tail))
        spread = np.exp(np.linspace(low, high, levels))
        spread = np.concatenate([spread, spread[-1] * 2.0 ** np.arange(1, len(STRIDES) - levels + 1)])
        # Anchors smaller than the stride would leave uncovered pixels between them.
        sizes = tuple((round(max(float(size), stride), 1),) for size, stride in zip(spread, STRIDES, strict=True))
        quantiles = np.linspace(ratio_tail, 100 - ratio_tail, ratio_count)
        ratios = tuple(round(float(np.exp(r)), 3) for r in np.percentile(log_ratios, quantiles))
        iou = best_iou(boxes, sizes, ratios)
        fit = AnchorFit(sizes, ratios, float(iou.mean()), float((iou >= GOOD_IOU).mean()))
        if best is None or fit.mean_best_iou > best.mean_best_iou:
            best = fit
    return best
