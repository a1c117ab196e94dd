"""Link the instances of neighboring slices to objects of the volume."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from mrcnn.detections import Detections
from mrcnn.rle import encode, ious

LEAST_IOU = 0.2
"""Least IoU of the masks of one object in neighboring slices; low, because thick slices cut an object differently."""


def link_slices(slices: Mapping[int, Detections], least_iou: float = LEAST_IOU) -> dict[int, np.ndarray]:
    """Assign the detections of a volume to objects, which are numbered.

    The detections of a class in neighboring slices are paired so that the sum of the IoU of their masks is largest
    (Hungarian method; Kuhn 1955). A pair of at least `least_iou` is one object. Numbers begin at 1 in the first slice
    and follow the order of the detections.

    Args:
        slices: number of a slice → its detections; only numbers that follow each other are neighbors.
        least_iou: above 0.

    Returns:
        For each slice the (N,) int64 numbers of its detections.

    Example:
        >>> masks = np.zeros((3, 1, 4, 4), bool)
        >>> masks[:2, 0, :2] = masks[2, 0, 2:] = True
        >>> boxes, ids = np.zeros((1, 4), np.float32), np.ones(1, np.int32)
        >>> slices = [Detections(boxes, np.ones(1, np.float32), ids, mask) for mask in masks]
        >>> [numbers.tolist() for numbers in link_slices(dict(enumerate(slices))).values()]
        [[1], [1], [2]]
    """
    numbers: dict[int, np.ndarray] = {}
    count = 0
    for index in sorted(slices):
        found, previous = slices[index], slices.get(index - 1)
        linked = np.zeros(len(found), np.int64)
        if previous is not None and len(previous) and len(found):
            overlap = ious(encode(previous.instances), encode(found.instances))
            overlap[previous.class_ids[:, None] != found.class_ids] = 0
            overlap[overlap < least_iou] = 0
            for before, after in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[before, after] > 0:
                    linked[after] = numbers[index - 1][before]
        new = np.flatnonzero(linked == 0)
        linked[new] = np.arange(count + 1, count + 1 + len(new))
        count += len(new)
        numbers[index] = linked
    return numbers


def in_short_objects(slices: Mapping[int, Detections], min_slices: int) -> dict[int, np.ndarray]:
    """Find the detections (N,) bool of each slice whose object is in fewer than `min_slices` slices."""
    objects = link_slices(slices)
    # An object has one detection in each of its slices.
    lengths = np.bincount(np.concatenate([np.zeros(0, np.int64), *objects.values()]))
    return {index: lengths[numbers] < min_slices for index, numbers in objects.items()}
