"""Masks as small soft squares over their own boxes, which is all that the mask head's targets need."""

from __future__ import annotations

import numpy as np
from PIL import Image


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """(N, 4) int64 boxes (x1, y1, x2, y2), x2 and y2 exclusive, around the pixels of (N, H, W) masks; empty → zeros."""
    boxes = np.zeros((len(masks), 4), np.int64)
    for box, mask in zip(boxes, masks, strict=True):
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows):
            columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def crop_mask(mask: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """The (H, W) bool mask within its tight box (4,) as (size, size) uint8, 0 … 255.

    Each side is averaged over areas where it shrinks and interpolated between pixel centres where it grows, so that
    the mask comes back, nearly exactly, when the square is laid over the box again and cut at 127.5.
    """
    x1, y1, x2, y2 = box
    crop = Image.fromarray(mask[y1:y2, x1:x2].astype(np.uint8) * np.uint8(255))
    crop = crop.resize((size, crop.height), _filter(crop.width, size))
    return np.asarray(crop.resize((size, size), _filter(crop.height, size)))


def _filter(pixels: int, size: int) -> Image.Resampling:
    return Image.Resampling.BOX if pixels >= size else Image.Resampling.BILINEAR
