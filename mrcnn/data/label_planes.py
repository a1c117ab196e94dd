"""Hundreds of masks as a few label planes, so that warping them costs little time and memory."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects

from mrcnn.data.mask_crops import tight_boxes


def pack(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N, H, W) bool as label planes (H, W, P) int32, and their areas (N,) in pixels.

    Instance i has the label i + 1 in one of the planes; instances that overlap lie in different ones, so none is lost.
    """
    planes: list[np.ndarray] = []
    areas = np.zeros(len(masks), np.int64)
    for index, (mask, (x1, y1, x2, y2)) in enumerate(zip(masks, tight_boxes(masks), strict=True)):
        crop = mask[y1:y2, x1:x2]
        areas[index] = np.count_nonzero(crop)
        plane = next((plane for plane in planes if not plane[y1:y2, x1:x2][crop].any()), None)
        if plane is None:
            plane = np.zeros(masks.shape[1:], np.int32)
            planes.append(plane)
        plane[y1:y2, x1:x2][crop] = index + 1
    return (np.stack(planes, axis=-1) if planes else np.zeros((*masks.shape[1:], 0), np.int32)), areas


def unpack(planes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The (count, H, W) bool masks of label planes (H, W, P), and their areas (count,) in pixels."""
    masks = np.zeros((count, *planes.shape[:2]), bool)
    areas = np.zeros(count, np.int64)
    for plane in np.moveaxis(planes, -1, 0):
        for index, region in enumerate(find_objects(plane, count)):
            if region is not None:
                masks[index][region] = plane[region] == index + 1
                areas[index] = np.count_nonzero(masks[index][region])
    return masks, areas
