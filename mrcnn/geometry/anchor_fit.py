"""Anchor sizes and ratios fitted to the boxes of the training split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.config import STRIDES
from mrcnn.geometry.anchors import anchor_shapes

GOOD_IOU = 0.5


@dataclass(frozen=True)
class AnchorFit:
    """Fitted anchors and how well they cover the boxes that they were fitted to.

    Attributes:
        sizes: one tuple of sizes (square root of the area, pixels) for each of P2 … P6.
        ratios: height / width.
        mean_best_iou: mean over boxes of the IoU with the best anchor shape, centres aligned.
        recall: share of boxes whose best shape has an IoU of at least 0.5.
    """

    sizes: tuple[tuple[float, ...], ...]
    ratios: tuple[float, ...]
    mean_best_iou: float
    recall: float


def shape_iou(boxes: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """IoU (N, K) of boxes (N, 2) and shapes (K, 2), width and height each, laid on one centre."""
    overlap = np.minimum(boxes[:, None], shapes[None]).prod(-1)
    return overlap / (boxes.prod(-1)[:, None] + shapes.prod(-1)[None] - overlap)


def fit_anchors(boxes: np.ndarray, *, ratio_count: int = 3) -> AnchorFit | None:
    """Fit anchors to `boxes` (N, 4) in network pixels.

    One size a level, spread evenly in the logarithm between the boxes' 2nd and 98th percentile, but never so small
    that a level's anchors fall between its cells (half the stride) — and `ratio_count` ratios at the quantile centres
    of the boxes' own. The search is over how far both ranges are stretched, by the mean best IoU.

    Returns:
        The fit, or None when there are fewer than two boxes with an area: nothing to fit to.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    sides = sides[(sides > 0).all(-1)]
    if len(sides) < 2:
        return None
    log_sizes = np.log(np.sqrt(sides.prod(-1)))
    log_ratios = np.log(sides[:, 1] / sides[:, 0])
    best = None
    for margin in (2, 5, 10, 20):
        low, high = np.percentile(log_sizes, (margin, 100 - margin))
        spread = np.linspace(low, max(high, low + np.log(2)), len(STRIDES))
        sizes = np.maximum(np.exp(spread), np.array(STRIDES) / 2)
        for ratio_margin in (5, 10, 20, 30):
            ratios = np.exp(np.percentile(log_ratios, np.linspace(ratio_margin, 100 - ratio_margin, ratio_count)))
            best_iou = shape_iou(sides, anchor_shapes(sizes, ratios)).max(-1)
            fit = AnchorFit(
                sizes=tuple((round(float(size), 1),) for size in sizes),
                ratios=tuple(round(float(ratio), 3) for ratio in ratios),
                mean_best_iou=float(best_iou.mean()),
                recall=float((best_iou >= GOOD_IOU).mean()),
            )
            if best is None or fit.mean_best_iou > best.mean_best_iou:
                best = fit
    return best
