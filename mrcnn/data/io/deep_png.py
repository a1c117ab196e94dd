"""Read 16-bit PNG files of several channels, which Pillow reduces to 8 bits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def read_deep_png(path: Path, *, gray: bool) -> np.ndarray:
    """Read a 16-bit PNG as (H, W, 3) uint16, or (H, W, 1) if it is `gray` with alpha; alpha is dropped.

    Raises:
        ValueError: the file is damaged.
    """
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise ValueError("damaged")
    # OpenCV returns BGR, and converts gray with alpha to BGRA.
    return array[..., :1] if gray else array[..., 2::-1]
