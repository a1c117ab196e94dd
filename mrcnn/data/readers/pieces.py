"""Instances of a region that is drawn as a whole: its connected pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects, label

_TOUCHING = np.ones((3, 3), bool)
"""Pixels that share a side or a corner belong together."""


def pieces_of(
    regions: Sequence[np.ndarray], min_area: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes], int]:
    """Every connected piece of at least `min_area` pixels of the regions, one region a class, (H, W) bool each.

    Returns:
        class_ids (N,) int32, boxes (N, 4) float32 (x1, y1, x2, y2), x2 and y2 exclusive, areas (N,) int64, the N
        run-length strings, and the number of pixels in pieces that are too small.
    """
    class_ids, boxes, areas, runs, lost = [], [], [], [], 0
    for class_id, region in enumerate(regions, start=1):
        if not region.any():
            continue
        labels, count = label(region, _TOUCHING)
        for number, (rows, columns) in enumerate(find_objects(labels, count), start=1):
            piece = labels[rows, columns] == number
            area = int(np.count_nonzero(piece))
            if area < min_area:
                lost += area
                continue
            mask = np.zeros(region.shape, np.uint8, order="F")
            mask[rows, columns] = piece
            class_ids.append(class_id)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            areas.append(area)
            runs.append(coco_mask.encode(mask)["counts"])
    return (
        np.array(class_ids, np.int32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(areas, np.int64),
        runs,
        lost,
    )
