"""Run lengths of masks in COCO's form, so that an evaluation of many images stays small in memory.

A `Rle` is pycocotools' `{"size": [height, width], "counts": bytes}`, runs in column-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.instance_masks import InstanceMasks

Rle = dict[str, Any]


def encode(masks: InstanceMasks | np.ndarray) -> list[Rle]:
    """Run lengths of `masks` (N, H, W) bool.

    The same bytes as `pycocotools.mask.encode`, from the columns that each mask covers only: instances are small in
    their image, and transposing whole images to column-major order would take most of the evaluation's time.
    """
    masks = InstanceMasks.from_array(masks)
    return [{"size": list(masks.shape[1:]), "counts": counts} for counts in masks.to_rle()]


def areas(rles: Sequence[Rle]) -> np.ndarray:
    """Pixels of each mask: (N,) int64."""
    # pycocotools 2.0.11 with NumPy 2 refuses more than 255 masks in one call of `area`.
    groups = [list(rles[start : start + 255]) for start in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.int64), *(coco_mask.area(group) for group in groups)]).astype(np.int64)


def coco_boxes(rles: Sequence[Rle]) -> np.ndarray:
    """Tight boxes (N, 4) float64 in COCO's order (x, y, width, height); zeros for an empty mask."""
    return np.asarray(coco_mask.toBbox(list(rles)), np.float64).reshape(-1, 4)


def ious(first: Sequence[Rle], second: Sequence[Rle]) -> np.ndarray:
    """IoU of every mask of `first` (N) with every one of `second` (M): (N, M) float64."""
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_mask.iou(list(first), list(second), [0] * len(second)))


def intersection_over_area(rles: Sequence[Rle], regions: Sequence[Rle]) -> np.ndarray:
    """Share of every mask of `rles` (N) that lies in every one of `regions` (M), COCO's overlap with crowds: (N, M)."""
    if not len(rles) or not len(regions):
        return np.zeros((len(rles), len(regions)))
    return np.asarray(coco_mask.iou(list(rles), list(regions), [1] * len(regions)))


def subtract_crowds(rles: Sequence[Rle], regions: Sequence[Rle], truth: Sequence[Rle]) -> list[Rle]:
    """What of the union of `rles` no region covers unless `truth` does, as one mask; nothing where that is empty."""
    if not len(rles) or not len(regions):
        return list(rles)
    mask, ignored = (coco_mask.decode(coco_mask.merge(list(each))).astype(bool) for each in (rles, regions))
    if len(truth):
        ignored &= ~coco_mask.decode(coco_mask.merge(list(truth))).astype(bool)
    mask &= ~ignored
    return encode(mask[None]) if mask.any() else []


def decode_cropped(rle: Rle) -> tuple[np.ndarray, tuple[int, int]]:
    """The mask within its tight box, (h, w) bool, and the (row, column) of its first pixel in the image."""
    top, left, pixels = InstanceMasks(*rle["size"], [rle["counts"]]).crop(0)
    return pixels, (top, left)


def as_json(rle: Rle) -> Rle:
    """The same with text in place of bytes, as COCO's files hold it."""
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
