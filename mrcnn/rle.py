"""Encode masks as COCO run lengths, so that an evaluation of many images needs little memory.

`Rle` is pycocotools' `{"size": [height, width], "counts": bytes}` with runs in column-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask

from mrcnn.instance_masks import InstanceMasks

Rle = dict[str, Any]
_coco: Any = mask  # the stubs accept run lengths of a private type only


def encode(masks: InstanceMasks | np.ndarray) -> list[Rle]:
    """Encode `masks` (N, H, W) bool as run lengths.

    The bytes equal those of `pycocotools.mask.encode`. Only the columns that a mask covers are read: instances are
    small, and converting whole images to column-major order would dominate the evaluation time.

    Example:
        >>> encode(np.array([[[False, True], [False, True]]]))[0]["size"]
        [2, 2]
    """
    masks = InstanceMasks.from_array(masks)
    return [{"size": list(masks.shape[1:]), "counts": counts} for counts in masks.to_rle()]


def merge(rles: Sequence[Rle], *, intersect: bool = False) -> Rle:
    """Compute the union, or the intersection, of one or more masks of the same size.

    Example:
        >>> rows = np.eye(2, dtype=bool)[:, :, None]  # the upper and the lower pixel of a 2×1 image
        >>> areas([merge(encode(rows))]).tolist()
        [2]
    """
    return _coco.merge(list(rles), intersect=intersect)


def decode(rle: Rle) -> np.ndarray:
    """Decode a mask: (H, W) bool.

    Example:
        >>> decode(encode(np.array([[[False, True]]]))[0]).tolist()
        [[False, True]]
    """
    return _coco.decode(rle).astype(bool)


def areas(rles: Sequence[Rle]) -> np.ndarray:
    """Count the pixels of each mask: (N,) int64.

    Example:
        >>> areas(encode(np.ones((2, 3, 4), bool))).tolist()
        [12, 12]
    """
    # pycocotools 2.0.11 with NumPy 2 accepts at most 255 masks per call of `area`.
    groups = [list(rles[start : start + 255]) for start in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.int64), *(_coco.area(group) for group in groups)]).astype(np.int64)


def coco_boxes(rles: Sequence[Rle]) -> np.ndarray:
    """Compute tight boxes (N, 4) float64 in COCO order (x, y, width, height); zeros for an empty mask.

    Example:
        >>> mask = np.zeros((1, 5, 5), bool)
        >>> mask[0, 1:3, 2:5] = True
        >>> coco_boxes(encode(mask)).tolist()
        [[2.0, 1.0, 3.0, 2.0]]
    """
    return np.asarray(_coco.toBbox(list(rles)), np.float64).reshape(-1, 4)


def ious(first: Sequence[Rle], second: Sequence[Rle], *, crowds: bool = False) -> np.ndarray:
    """Compute the IoU |A∩B| / |A∪B| (Jaccard 1912) of N masks A with M masks B: (N, M) float64.

    For `crowds` B compute |A∩B| / |A|, COCO's overlap with them.

    Example:
        >>> masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], bool)
        >>> ious(encode(masks[:1]), encode(masks)).round(3).tolist()
        [[1.0, 0.333]]
        >>> ious(encode(masks[:1]), encode(masks), crowds=True).tolist()
        [[1.0, 0.5]]
    """
    if not len(first) or not len(second):
        return np.zeros((len(first), len(second)))
    return np.asarray(_coco.iou(list(first), list(second), [int(crowds)] * len(second)))


def subtract_crowds(rles: Sequence[Rle], regions: Sequence[Rle], truth: Sequence[Rle]) -> list[Rle]:
    """Remove the pixels in crowd `regions`, except those in `truth`, from the union of `rles`.

    Returns:
        One mask, or none if it is empty. Without regions the masks of `rles`.

    Example:
        >>> masks = np.array([[[1, 1, 1]], [[0, 1, 1]], [[0, 0, 1]]], bool)
        >>> prediction, crowd, truth = (encode(mask[None]) for mask in masks)
        >>> areas(subtract_crowds(prediction, crowd, truth)).tolist()
        [2]
    """
    if not len(rles) or not len(regions):
        return list(rles)
    pixels, ignored = decode(merge(rles)), decode(merge(regions))
    if len(truth):
        ignored &= ~decode(merge(truth))
    pixels &= ~ignored
    return encode(pixels[None]) if pixels.any() else []


def decode_cropped(rle: Rle) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode a mask within its tight box: (h, w) bool, and the (row, column) of the box in the image.

    Example:
        >>> mask = np.zeros((1, 5, 5), bool)
        >>> mask[0, 1:3, 2:5] = True
        >>> pixels, corner = decode_cropped(encode(mask)[0])
        >>> pixels.shape, corner
        ((2, 3), (1, 2))
    """
    height, width = rle["size"]
    top, left, pixels = InstanceMasks(height, width, [rle["counts"]]).crop(0)
    return pixels, (top, left)


def as_json(rle: Rle) -> Rle:
    """Convert the counts to text, as in COCO files.

    Example:
        >>> as_json(encode(np.array([[[False, True]]]))[0])
        {'size': [1, 2], 'counts': '11'}
    """
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
