"""Decode PNG, JPEG, TIFF and BMP files with Pillow and tifffile, within limits that hold before any decoding."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import tifffile
from PIL import Image

from mrcnn.data.io.file_types import check_scans
from mrcnn.data.io.orientation import ORIENTATION, orientation_of, turned, valid
from mrcnn.errors import InputError

T = TypeVar("T")

MAX_PIXELS = 1 << 27
"""Rows times columns of an image file: beyond any detector's, and below what a false header makes of a few bytes."""

_MOST_SAMPLES = 1 << 29  # rows times columns times channels
_LONGEST_RUN = 256
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # Pillow knows many more, some of which start other programs
JPEGS = ("JPEG", "MPO")  # as Pillow names them: the second holds more pictures behind the first
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, sections 8 and 19
_SIGNED = 2  # of sample format
_DEEP_GREY_ALPHA = (16, 4)
_DEEP_COLOURS = ((16, 2), (16, 6), _DEEP_GREY_ALPHA)  # PNG: depth and colour type
TIFF_SUFFIXES = (".tif", ".tiff")
PLANES = ("YX", "YXS", "SYX")
"""Axes of the pages that hold one image, as tifffile has them."""
# What Pillow, tifffile and pydicom raise on files that are damaged, cut short or of an unknown kind.
DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError, tifffile.TiffFileError,
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, RuntimeError, TypeError,
)  # fmt: skip


def check_size(height: int, width: int, channels: int) -> None:
    """Raises `ValueError` unless an image has pixels, and no more than can be held."""
    if height < 1 or width < 1 or channels < 1:
        raise ValueError(f"{width}×{height} pixels")
    if height * width > MAX_PIXELS or height * width * channels > _MOST_SAMPLES:
        raise ValueError(f"{width}×{height} pixels of {channels} channels; expected at most {MAX_PIXELS:,} pixels")


def open_picture(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Opens a file of one of the formats to be decoded. Raises one of `DECODING_ERRORS`, as where it is too large."""
    image = open_picture_header(path, formats)
    if image.format in JPEGS:
        try:
            check_scans(path.read_bytes())
        except InputError as error:
            image.close()
            raise InputError(f"{path}: {error}") from error
    return image


def open_picture_header(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    image = Image.open(path, formats=formats)
    if image.format == "TIFF":
        image.filename = ""  # else Pillow 13 maps the file, and scrambles what its orientation turns by 90°
    try:
        check_size(image.height, image.width, len(image.getbands()))
    except ValueError:
        image.close()
        raise
    return image


def needs_tifffile(path: Path) -> bool:
    """Whether Pillow would refuse this TIFF or silently change its values."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        with open_picture_header(path) as image:
            return image.format == "TIFF" and changes_values(image)
    except Image.UnidentifiedImageError:
        return True


def changes_values(image: Image.Image) -> bool:
    """Whether Pillow cuts the colours of an opened TIFF to 8 bits, or takes its signed bytes for unsigned ones."""
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
    signed = _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ())
    return (len(bits) > 1 and max(bits) > 8) or (signed and max(bits) <= 8)


def read_with_pillow(path: Path) -> np.ndarray:
    with open_picture(path) as image:
        if image.format == "PNG" and (kind := png_kind(path)) in _DEEP_COLOURS:
            deep = read_deep_png(path, grey=kind == _DEEP_GREY_ALPHA)
            return np.ascontiguousarray(turned(deep, orientation_of(image)))
        if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
            raise InputError(f"{path}: holds {image.n_frames} pages; expected a single image")
        return picture_pixels(image)


def picture_pixels(image: Image.Image) -> np.ndarray:
    """(H, W, C) of an opened image as it is shown: alpha is dropped, a palette becomes RGB.

    Raises:
        ValueError: its run lengths stand for more pixels than runs can hold; it is a TIFF whose 0 is white, of values
            without a largest one.
    """
    check_runs(image)
    is_tiff, orientation = image.format == "TIFF", orientation_of(image)
    is_white_is_zero = is_tiff and image.tag_v2.get(_PHOTOMETRIC) == tifffile.PHOTOMETRIC.MINISWHITE
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0] if is_white_is_zero else 0
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
        image = image.convert("RGB")
    array = np.array(image)
    if bits > 8:  # up to 8 bits Pillow inverts
        array = _inverted(array, bits)
    # Of a TIFF Pillow has applied it.
    array = array if is_tiff else np.ascontiguousarray(turned(array, orientation))
    return array if array.ndim == 3 else array[..., None]


def _inverted(array: np.ndarray, bits: int) -> np.ndarray:
    """Pixels of a TIFF whose 0 is white as those of one whose 0 is black."""
    if array.dtype.kind == "b":
        return ~array
    if array.dtype.kind != "u":
        raise ValueError(f"0 is white (PhotometricInterpretation 0) in values of {array.dtype}; expected 0 to be black")
    return ((1 << bits) - 1 - array.astype(np.int64)).astype(array.dtype)


def check_runs(image: Image.Image) -> None:
    """Raises `ValueError` where the runs of a BMP could not fill it.

    Pillow fills what they leave out pixel by pixel, so 2 kB could take it half a minute.
    """
    if not image.tile or image.tile[0][0] != "bmp_rle":
        return
    position = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(position)
    if image.width * image.height > _LONGEST_RUN * size:
        raise ValueError(f"{image.width}×{image.height} pixels in {size} bytes; expected at most {_LONGEST_RUN} a byte")


def png_kind(path: Path) -> tuple[int, int]:
    """Bit depth and colour type from the header chunk (PNG specification, section 11.2.1); Pillow tells neither."""
    with path.open("rb") as file:
        depth, colour_type = file.read(26)[24:]
    return depth, colour_type


def read_with_tifffile(path: Path) -> np.ndarray:
    return single_page(path, page_pixels)


def single_page(path: Path, read: Callable[[tifffile.TiffPage], T]) -> T:
    """What `read` makes of the only page of a TIFF, once it is checked to be a single image."""
    with tifffile.TiffFile(path) as tiff:
        # Not tiff.series, which may look for its parts in other files, and does not come back from some damaged ones.
        if len(tiff.pages) > 1:
            raise InputError(f"{path}: holds a stack of {len(tiff.pages)} pages; expected a single image")
        page = tiff.pages[0]
        check_size(page.imagelength, page.imagewidth, page.samplesperpixel)
        if page.axes not in PLANES:
            raise InputError(f"{path}: holds a stack with axes {page.axes}; expected a single image")
        return read(page)


def page_pixels(page: tifffile.TiffPage) -> np.ndarray:
    """(H, W, C) of a page with axes of `PLANES`, as it is shown; of colours alpha is dropped."""
    array = page_values(page)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = _inverted(array, page.bitspersample)
    return np.ascontiguousarray(array[..., :3] if page.photometric == tifffile.PHOTOMETRIC.RGB else array)


def page_values(page: tifffile.TiffPage) -> np.ndarray:
    """(H, W, C) stored values of a page with axes of `PLANES`, turned as its orientation says."""
    array = page.asarray()
    array = array[..., None] if page.axes == "YX" else np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
    return turned(array, page_orientation(page))


def page_orientation(page: tifffile.TiffPage) -> int:
    """EXIF orientation of a page."""
    return valid(page.tags.valueof(ORIENTATION))


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
