"""16-bit PNG files of several channels, which Pillow would cut to 8 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_deep_png(path: Path, *, grey: bool) -> np.ndarray:
    """(H, W, 3) uint16, or (H, W, 1) of a `grey` one with alpha; alpha is dropped.

    Raises:
        ValueError: the file is damaged.
    """
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("damaged")
    # OpenCV has blue first, and makes colours with alpha of grey with alpha.
    return array[..., :1] if grey else array[..., 2::-1]
