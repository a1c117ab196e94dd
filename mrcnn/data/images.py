"""Image files as arrays, and their sizes without decoding them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from mrcnn.errors import InputError

_BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8
_TIFF_SUFFIXES = (".tif", ".tiff")
# What Pillow and tifffile raise on files that are damaged, cut short or of an unknown kind.
_UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError, tifffile.TiffFileError)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The pixels of a PNG, JPEG, TIFF or BMP file, as they are stored.

    Alpha is dropped, a palette becomes RGB, and the EXIF orientation is not applied, since annotations are made in
    stored pixels.

    Returns:
        (H, W, C) uint8, or float32 in the file's own units where it holds more than 8 bits.

    Raises:
        InputError: the file is missing, damaged, of several pages, or of a kind that is not read.
    """
    path = Path(path)
    try:
        array = _read_with_tifffile(path) if _needs_tifffile(path) else _read_with_pillow(path)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: pixels are NaN or infinite; expected finite numbers")
    return array


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of an image file from its header. Raises `InputError` as `read_image` does."""
    path = Path(path)
    try:
        if _needs_tifffile(path):
            with tifffile.TiffFile(path) as tiff:
                return tiff.pages[0].imagelength, tiff.pages[0].imagewidth
        with Image.open(path) as image:
            return image.height, image.width
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    return InputError(f"{path}: expected a readable PNG, JPEG, TIFF or BMP image ({error})")


def _needs_tifffile(path: Path) -> bool:
    """Whether Pillow would refuse this TIFF or silently cut its colours to 8 bits."""
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return False
    try:
        with Image.open(path) as image:
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,)) if image.format == "TIFF" else (8,)
    except Image.UnidentifiedImageError:
        return True
    return len(bits) > 1 and max(bits) > 8


def _read_with_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.format == "PNG" and image.mode in ("LA", "RGB", "RGBA") and _png_bits(path) == 16:
            raise InputError(f"{path}: 16-bit colour PNG; expected 8-bit colour, 16-bit grey, or a TIFF")
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: holds {image.n_frames} pages; expected a single image")
        if image.mode in ("1", "LA", "La"):
            image = image.convert("L")
        elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
            image = image.convert("RGB")
        array = np.array(image)
    return array if array.ndim == 3 else array[..., None]


def _png_bits(path: Path) -> int:
    """Bit depth from the header chunk (PNG specification, section 11.2.1); Pillow does not tell it."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _read_with_tifffile(path: Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tiff:
        axes, array = tiff.series[0].axes, tiff.series[0].asarray()
        if len(tiff.series) > 1 or axes not in ("YX", "YXS", "SYX"):
            raise InputError(f"{path}: holds a stack with axes {axes}; expected a single image")
        is_colour = tiff.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
    if axes == "YX":
        array = array[..., None]
    elif axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    return np.ascontiguousarray(array[..., :3] if is_colour else array)
