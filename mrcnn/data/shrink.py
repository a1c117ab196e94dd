"""Samples reduced to the size at which the network sees them, before anything costly is done to them."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor

import numpy as np
from PIL import Image

from mrcnn.data.mask_crops import tight_boxes
from mrcnn.data.pixels import resize
from mrcnn.data.sample import Sample


def shrink(sample: Sample, longest: int) -> Sample:
    """The sample with its longer side reduced to `longest` pixels; a smaller one comes back as it is.

    A pixel of the result belongs to an instance that covers at least half of it. Of an instance too small to cover any
    whole pixel, half of the greatest coverage counts instead, so that none vanishes.
    """
    height, width = sample.image.shape[:2]
    if max(height, width) <= longest:
        return sample
    scale = longest / max(height, width)
    rows, columns = (max(1, int(side * scale + 1e-6)) for side in (height, width))
    changed = {"masks": _shrink_masks(sample.masks, rows, columns, scale)}
    if sample.crowd_masks is not None:
        changed["crowd_masks"] = _shrink_masks(sample.crowd_masks, rows, columns, scale)
    spacing = sample.spacing_mm and (sample.spacing_mm[0] / scale, sample.spacing_mm[1] / scale)
    return replace(sample, image=resize(sample.image, rows, columns, scale), spacing_mm=spacing, **changed)


def _shrink_masks(masks: np.ndarray, rows: int, columns: int, scale: float) -> np.ndarray:
    shrunk = np.zeros((len(masks), rows, columns), bool)
    for small, mask, box in zip(shrunk, masks, tight_boxes(masks), strict=True):
        if box[2] > 0:
            _shrink_mask(mask, box, scale, small)
    return shrunk


def _shrink_mask(mask: np.ndarray, box: np.ndarray, scale: float, small: np.ndarray) -> None:
    """Writes the (H, W) mask into `small`, resampling only the part that its tight box touches."""
    (x1, x2), (left, right) = _span(box[0], box[2], scale, small.shape[1], mask.shape[1])
    (y1, y2), (top, bottom) = _span(box[1], box[3], scale, small.shape[0], mask.shape[0])
    x0, y0 = floor(left), floor(top)
    crop = Image.fromarray(mask[y0 : ceil(bottom), x0 : ceil(right)].astype(np.uint8) * np.uint8(255))
    source = (left - x0, top - y0, right - x0, bottom - y0)
    covered = np.asarray(crop.resize((x2 - x1, y2 - y1), Image.Resampling.BOX, source))
    greatest = int(covered.max())
    small[y1:y2, x1:x2] = covered >= max(greatest // 2, min(greatest, 1))


def _span(low: int, high: int, scale: float, limit: int, pixels: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """The pixels of the result that [low, high) touches, and what they cover in the source."""
    first = min(floor(low * scale), limit - 1)
    last = max(first + 1, min(ceil(high * scale), limit))
    return (first, last), (first / scale, min(last / scale, pixels))
