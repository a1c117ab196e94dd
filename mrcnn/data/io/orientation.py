"""EXIF orientation (CIPA DC-008, 4.6.4): how a stored picture is turned to be shown."""

from __future__ import annotations

import numpy as np
from PIL import Image

ORIENTATION = 0x0112
"""The tag, in EXIF and in TIFF."""
UPRIGHT = 1


def orientation_of(image: Image.Image) -> int:
    """Read the orientation, 1 to 8, of an opened picture without decoding it; 1 where it has none that is valid.

    Of a PNG only EXIF before the pixels counts, as in browsers, and XMP never does.
    """
    if image.format == "TIFF":
        return valid(image.tag_v2.get(ORIENTATION))
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return valid(exif.get(ORIENTATION))
    except Exception:  # noqa: BLE001 - damaged EXIF, on which parsers fail in every way, orients nothing
        return UPRIGHT


def valid(orientation: object) -> int:
    """Return an orientation as it is, and 1 instead of anything that is none."""
    return int(orientation) if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def swaps_sides(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation >= 5


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W, …) as they are shown, (W, H, …) for orientations 5 to 8; a view."""
    # Stored row 0 and column 0 are shown at: 1 top left, 2 top right, 3 bottom right, 4 bottom left, 5 left top,
    # 6 right top, 7 right bottom, 8 left bottom.
    if swaps_sides(orientation):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array
