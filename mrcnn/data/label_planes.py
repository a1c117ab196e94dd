"""Hundreds of masks as a few label planes, so that warping them costs little time and memory."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects

from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks


def pack(masks: InstanceMasks) -> np.ndarray:
    """N masks of (H, W) pixels as label planes (H, W, P) int32.

    Instance i has the label i + 1 in one of the planes; instances that overlap lie in different ones, so none is lost.
    """
    planes: list[np.ndarray] = []
    for index, crop in enumerate(masks):
        plane = next((plane for plane in planes if not plane[crop.part][crop.pixels].any()), None)
        if plane is None:
            plane = np.zeros(masks.shape[1:], np.int32)
            planes.append(plane)
        plane[crop.part][crop.pixels] = index + 1
    return np.stack(planes, axis=-1) if planes else np.zeros((*masks.shape[1:], 0), np.int32)


def unpack(planes: np.ndarray, count: int) -> InstanceMasks:
    """The `count` masks of label planes (H, W, P)."""
    crops = [EMPTY] * count
    for plane in np.moveaxis(planes, -1, 0):
        for index, region in enumerate(find_objects(plane, count)):
            if region is not None:
                rows, columns = region
                crops[index] = Crop(rows.start, columns.start, plane[region] == index + 1)
    return InstanceMasks(*planes.shape[:2], crops)
