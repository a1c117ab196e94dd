"""Resize images, and downscale samples to the network input size before augmentation."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, floor

import numpy as np
from PIL import Image

from mrcnn.data.sample import Sample
from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks


def resize(image: np.ndarray, height: int, width: int, scale: float) -> np.ndarray:
    """Resize (H, W, C) uint8 or float32 to (height, width, C) with bilinear interpolation and antialiasing.

    Output pixel y covers y / scale … (y + 1) / scale, likewise x; a remainder of less than one output pixel is cut off.
    """
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    source = (0, 0, min(width / scale, columns), min(height / scale, rows))
    if image.dtype == np.uint8 and image.shape[2] == 3 and image.strides[2]:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, source))
    # A broadcast channel (stride 0) is resized once.
    distinct = image.shape[2] if image.strides[2] else 1
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
                (width, height), Image.Resampling.BILINEAR, source
            )
        )
        for channel in range(distinct)
    ]
    return np.broadcast_to(np.stack(planes, axis=-1), (height, width, image.shape[2]))


def downscale_sample(sample: Sample, canvas: tuple[int, int]) -> Sample:
    """Downscale a sample to fit into the canvas (height, width); return a smaller sample unchanged.

    A pixel belongs to an instance that covers at least half of it. For an instance too small to cover a whole pixel,
    the threshold is half of its greatest coverage, so that no instance vanishes.
    """
    height, width = sample.image.shape[:2]
    scale = min(canvas[0] / height, canvas[1] / width)
    if scale >= 1:
        return sample
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
    """Downscale one mask; only its tight box is resampled."""
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
    """Return the output pixels that [low, high) touches, and their extent in the source."""
    first = min(floor(low * scale), limit - 1)
    last = max(first + 1, min(ceil(high * scale), limit))
    return (first, last), (first / scale, min(last / scale, pixels))
