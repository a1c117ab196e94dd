"""Samples reduced to the size at which the network sees them, before anything costly is done to them."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor

import numpy as np
from PIL import Image

from mrcnn.data.sample import Sample
from mrcnn.data.transforms.normalization import resize
from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks


def downscale_sample(sample: Sample, longest: int) -> Sample:
    """The sample with its longer side reduced to `longest` pixels; a smaller one comes back as it is.

    A pixel of the result belongs to an instance that covers at least half of it. Of an instance too small to cover any
    whole pixel, half of the greatest coverage counts instead, so that none vanishes.
    """
    height, width = sample.image.shape[:2]
    if max(height, width) <= longest:
        return sample
    scale = longest / max(height, width)
    rows, columns = (max(1, int(side * scale + 1e-6)) for side in (height, width))
    masks, crowds = (_shrink_masks(each, rows, columns, scale) for each in (sample.instances, sample.crowds))
    spacing = sample.spacing_mm and (sample.spacing_mm[0] / scale, sample.spacing_mm[1] / scale)
    image = resize(sample.image, rows, columns, scale)
    return replace(sample, image=image, masks=masks, crowd_masks=crowds, spacing_mm=spacing)


def _shrink_masks(masks: InstanceMasks | None, rows: int, columns: int, scale: float) -> InstanceMasks | None:
    if masks is None:
        return None
    crops = [
        _shrink_mask(masks, index, box, scale, rows, columns) if box[2] > 0 else EMPTY
        for index, box in enumerate(masks.boxes)
    ]
    return InstanceMasks(rows, columns, crops)


def _shrink_mask(instances: InstanceMasks, index: int, box: np.ndarray, scale: float, rows: int, columns: int) -> Crop:
    """A mask at the new size, of which only the part that its tight box touches is resampled."""
    _, height, width = instances.shape
    (x1, x2), (left, right) = _span(box[0], box[2], scale, columns, width)
    (y1, y2), (top, bottom) = _span(box[1], box[3], scale, rows, height)
    x0, y0 = floor(left), floor(top)
    part = instances.region(index, y0, ceil(bottom), x0, ceil(right))
    crop = Image.fromarray(part.astype(np.uint8) * np.uint8(255))
    source = (left - x0, top - y0, right - x0, bottom - y0)
    covered = np.asarray(crop.resize((x2 - x1, y2 - y1), Image.Resampling.BOX, source))
    greatest = int(covered.max())
    return Crop(y1, x1, covered >= max(greatest // 2, min(greatest, 1))).tight()


def _span(low: int, high: int, scale: float, limit: int, pixels: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """The pixels of the result that [low, high) touches, and what they cover in the source."""
    first = min(floor(low * scale), limit - 1)
    last = max(first + 1, min(ceil(high * scale), limit))
    return (first, last), (first / scale, min(last / scale, pixels))
