"""Masks as small soft squares over their own boxes, which is all that the mask head's targets need."""

from __future__ import annotations

import numpy as np
from PIL import Image


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
