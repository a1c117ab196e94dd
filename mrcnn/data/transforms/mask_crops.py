"""Masks as small soft squares over their own boxes, which is all that the mask head's targets need."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects

from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """A mask within its tight box, (h, w) bool, as (size, size) uint8, 0 … 255.

    Each side is averaged over areas where it shrinks and interpolated between pixel centres where it grows, so that
    the mask comes back, nearly exactly, when the square is laid over the box again and cut at 127.5.
    """
    crop = Image.fromarray(pixels.astype(np.uint8) * np.uint8(255))
    crop = crop.resize((size, crop.height), _filter(crop.width, size))
    return np.asarray(crop.resize((size, size), _filter(crop.height, size)))


def _filter(pixels: int, size: int) -> Image.Resampling:
    return Image.Resampling.BOX if pixels >= size else Image.Resampling.BILINEAR


def pack_label_planes(masks: InstanceMasks) -> np.ndarray:
    """N masks of (H, W) pixels as label planes (H, W, P) int32.

    Instance i has the label i + 1 in one of the planes; instances that overlap lie in different ones, so none is lost.
    """
    planes: list[np.ndarray] = []
    for index, crop in enumerate(masks):
        plane = next((plane for plane in planes if not plane[crop.slices][crop.pixels].any()), None)
        if plane is None:
            plane = np.zeros(masks.shape[1:], np.int32)
            planes.append(plane)
        plane[crop.slices][crop.pixels] = index + 1
    return np.stack(planes, axis=-1) if planes else np.zeros((*masks.shape[1:], 0), np.int32)


def unpack_label_planes(planes: np.ndarray, count: int) -> InstanceMasks:
    """The `count` masks of label planes (H, W, P)."""
    crops = [EMPTY] * count
    for plane in np.moveaxis(planes, -1, 0):
        for index, region in enumerate(find_objects(plane, count)):
            if region is not None:
                rows, columns = region
                crops[index] = Crop(rows.start, columns.start, plane[region] == index + 1)
    return InstanceMasks(*planes.shape[:2], crops)
