"""The anchor grid: the boxes that the region proposal network starts from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from mrcnn.config import STRIDES, ModelConfig


def anchor_shapes(sizes, ratios) -> np.ndarray:
    """Width and height (sizes × ratios, 2) of anchors of area size² and height/width = ratio."""
    return np.array(
        [(size / np.sqrt(ratio), size * np.sqrt(ratio)) for size in sizes for ratio in ratios], dtype=np.float32
    )


def anchor_grid(config: ModelConfig) -> np.ndarray:
    """All anchors (A, 4) float32 in network pixels, ordered level, row, column, size, ratio.

    Each is centred on its cell: cell (0, 0) of stride 4 has its centre at pixel (2, 2).
    """
    levels = []
    for stride, cells, sizes in zip(STRIDES, config.grid_sizes, config.anchor_sizes, strict=True):
        half = anchor_shapes(sizes, config.anchor_ratios) / 2
        centres = (np.arange(cells, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        xy = np.stack([x, y], axis=-1)[:, :, None, :]
        levels.append(np.concatenate([xy - half, xy + half], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


GOOD_IOU = 0.5
MOST_BOXES = 5000
"""More boxes than this are thinned evenly: the quantiles do not move, the search stays under a second."""


@dataclass(frozen=True)
class AnchorFit:
    """Fitted anchors and how well they cover the boxes that they were fitted to.

    Attributes:
        sizes: one tuple of sizes (square root of the area, pixels) for each of P2 … P6.
        ratios: height / width.
        mean_best_iou: mean over boxes of the IoU with the best anchor of the whole grid.
        recall: share of boxes whose best anchor has an IoU of at least 0.5.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    mean_best_iou: float
    recall: float


def best_iou(boxes: np.ndarray, sizes, ratios) -> np.ndarray:
    """IoU (N,) of each box (N, 4) with the best anchor of the grid that `sizes` per level and `ratios` make.

    For one shape the best anchor is the one on the nearest cell, so only that cell of each level is looked at.
    """
    centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    best = np.zeros(len(boxes))
    for stride, level_sizes in zip(STRIDES, sizes, strict=True):
        offset = np.abs(centre - (np.floor(centre / stride) + 0.5) * stride)[:, None]
        shapes = anchor_shapes(level_sizes, ratios).astype(np.float64)[None]
        overlap = np.minimum(np.minimum(sides[:, None], shapes), (sides[:, None] + shapes) / 2 - offset)
        overlap = np.maximum(overlap, 0).prod(-1)
        iou = overlap / (sides.prod(-1)[:, None] + shapes.prod(-1) - overlap)
        best = np.maximum(best, iou.max(-1))
    return best


def fit_anchors(boxes: np.ndarray, *, ratio_count: int = 3) -> AnchorFit | None:
    """Fit anchors to `boxes` (N, 4) in network pixels.

    One size a level: the first levels' sizes spread evenly in the logarithm over the boxes' own, each further level's
    twice the one before. Ratios are quantiles of the boxes' own. How many levels share the boxes, and how far both
    ranges reach into the tails, is searched for the highest mean IoU with the best anchor of the actual grid; a large
    stride with small anchors loses there, because its cells lie too far apart.

    Returns:
        The fit, or None when there are fewer than two boxes with an area: nothing to fit to.
    """
    boxes = np.asarray(boxes, np.float64)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)]
    if len(boxes) < 2:
        return None
    boxes = boxes[:: -(-len(boxes) // MOST_BOXES)]
    sides = boxes[:, 2:] - boxes[:, :2]
    log_sizes = np.log(np.sqrt(sides.prod(-1)))
    log_ratios = np.log(sides[:, 1] / sides[:, 0])
    best = None
    for levels, tail, ratio_tail in product((2, 3, 4, 5), (2, 10, 20), (5, 15, 25)):
        spread = np.exp(np.linspace(*np.percentile(log_sizes, (tail, 100 - tail)), levels))
        spread = np.concatenate([spread, spread[-1] * 2.0 ** np.arange(1, len(STRIDES) - levels + 1)])
        # Below its stride a level's anchors would leave pixels between them uncovered.
        sizes = tuple((round(max(float(size), stride), 1),) for size, stride in zip(spread, STRIDES, strict=True))
        quantiles = np.linspace(ratio_tail, 100 - ratio_tail, ratio_count)
        ratios = tuple(round(float(np.exp(r)), 3) for r in np.percentile(log_ratios, quantiles))
        iou = best_iou(boxes, sizes, ratios)
        fit = AnchorFit(sizes, ratios, float(iou.mean()), float((iou >= GOOD_IOU).mean()))
        if best is None or fit.mean_best_iou > best.mean_best_iou:
            best = fit
    return best
