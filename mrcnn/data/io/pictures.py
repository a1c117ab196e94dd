"""Decode PNG, JPEG, TIFF and BMP files with Pillow and tifffile, with limits checked before decoding."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import tifffile
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mrcnn.errors import InputError

T = TypeVar("T")

MAX_PIXELS = 1 << 27
"""Limit of rows times columns: above any detector, below the sizes that forged headers claim."""

MOST_SCANS = 100
"""Largest number of scans in a JPEG. Encoders write about ten; a decoder passes over the whole image for each."""
_START, _SCAN, _END = b"\xff\xd8", 0xDA, 0xD9  # JPEG markers
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # excludes stuffed bytes and restart markers
ORIENTATION = 0x0112
"""EXIF and TIFF tag of the orientation (CIPA DC-008, 4.6.4): how a stored picture is turned to be shown."""
UPRIGHT = 1
_MOST_SAMPLES = 1 << 29  # rows times columns times channels
_LONGEST_RUN = 256
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")  # Pillow reads others too, some with external programs
JPEGS = ("JPEG", "MPO")  # format names of Pillow; MPO is JPEG with additional images
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0, sections 8 and 19
_SIGNED = 2  # of sample format
_DEEP_GRAY_ALPHA = (16, 4)
_DEEP_COLORS = ((16, 2), (16, 6), _DEEP_GRAY_ALPHA)  # PNG: depth and color type
TIFF_SUFFIXES = (".tif", ".tiff")
PLANES = ("YX", "YXS", "SYX")
"""Axes, in tifffile's notation, of pages with one image."""
# Errors of Pillow, tifffile and pydicom for damaged, truncated or unknown files.
DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError, tifffile.TiffFileError,
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, RuntimeError, TypeError,
)  # fmt: skip


def check_size(height: int, width: int, channels: int) -> None:
    """Raise `ValueError` unless the size of an image is within the limits."""
    if height < 1 or width < 1 or channels < 1:
        raise ValueError(f"{width}×{height} pixels")
    if height * width > MAX_PIXELS or height * width * channels > _MOST_SAMPLES:
        raise ValueError(f"{width}×{height} pixels of {channels} channels; expected at most {MAX_PIXELS:,} pixels")


def open_picture(path: Path, formats: tuple[str, ...] = FORMATS) -> ImageFile:
    """Open a file of one of the formats for decoding. Raises one of `DECODING_ERRORS`, also if it is too large."""
    image = open_picture_header(path, formats)
    if image.format in JPEGS:
        try:
            check_scans(path.read_bytes())
        except InputError as error:
            image.close()
            raise InputError(f"{path}: {error}") from error
    return image


def open_picture_header(path: Path, formats: tuple[str, ...] = FORMATS) -> ImageFile:
    """Open a file of one of the formats to read its header. Raises like `open_picture`."""
    image = Image.open(path, formats=formats)
    if image.format == "TIFF":
        image.filename = ""  # prevents memory mapping, with which Pillow 13 scrambles images rotated by 90°
    try:
        check_size(image.height, image.width, len(image.getbands()))
    except ValueError:
        image.close()
        raise
    return image


def needs_tifffile(path: Path) -> bool:
    """Check for a TIFF that Pillow rejects or whose values it changes."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return False
    try:
        with open_picture_header(path) as image:
            return isinstance(image, TiffImageFile) and changes_values(image)
    except Image.UnidentifiedImageError:
        return True


def changes_values(image: TiffImageFile) -> bool:
    """Check whether Pillow reduces colors of an opened TIFF to 8 bits, or reads signed bytes as unsigned."""
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))
    signed = _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ())
    return (len(bits) > 1 and max(bits) > 8) or (signed and max(bits) <= 8)


def read_with_pillow(path: Path) -> np.ndarray:
    """Read the displayed pixels (H, W, C). Raises one of `DECODING_ERRORS`."""
    with open_picture(path) as image:
        if image.format == "PNG" and (kind := png_kind(path)) in _DEEP_COLORS:
            # Imported here: a served model does without OpenCV.
            from mrcnn.data.io.deep_png import read_deep_png

            deep = read_deep_png(path, gray=kind == _DEEP_GRAY_ALPHA)
            return np.ascontiguousarray(orient(deep, read_orientation(image)))
        if isinstance(image, TiffImageFile) and image.n_frames > 1:
            raise InputError(f"{path}: holds {image.n_frames} pages; expected a single image")
        return picture_pixels(image)


def picture_pixels(image: ImageFile) -> np.ndarray:
    """Decode the displayed pixels (H, W, C) of an opened image: alpha is dropped, a palette becomes RGB.

    Raises:
        ValueError: a run-length encoded BMP is too short for its size, or a WhiteIsZero TIFF has signed or float
            values.
    """
    check_runs(image)
    is_tiff = isinstance(image, TiffImageFile)
    orientation, bits = read_orientation(image), 0
    if is_tiff and image.tag_v2.get(_PHOTOMETRIC) == tifffile.PHOTOMETRIC.MINISWHITE:
        bits = image.tag_v2.get(_BITS_PER_SAMPLE, (1,))[0]
    if image.mode in ("1", "LA", "La"):
        array = np.array(image.convert("L"))
    elif image.mode not in ("L", "RGB", "F", "I") and not image.mode.startswith("I;16"):
        array = np.array(image.convert("RGB"))
    else:
        array = np.array(image)
    if bits > 8:  # Pillow inverts up to 8 bits
        array = _inverted(array, bits)
    # Pillow applies the orientation of a TIFF.
    array = array if is_tiff else np.ascontiguousarray(orient(array, orientation))
    return array if array.ndim == 3 else array[..., None]


def _inverted(array: np.ndarray, bits: int) -> np.ndarray:
    """Invert the pixels of a WhiteIsZero TIFF."""
    if array.dtype.kind == "b":
        return ~array
    if array.dtype.kind != "u":
        raise ValueError(f"0 is white (PhotometricInterpretation 0) in values of {array.dtype}; expected 0 to be black")
    return ((1 << bits) - 1 - array.astype(np.int64)).astype(array.dtype)


def check_runs(image: ImageFile) -> None:
    """Raise `ValueError` if a run-length encoded BMP is too short for its size.

    Pillow fills missing pixels one by one, so that 2 kB could take half a minute.
    """
    if not image.tile or image.tile[0][0] != "bmp_rle":
        return
    assert image.fp is not None  # open until the pixels are loaded
    position = image.fp.tell()
    size = image.fp.seek(0, os.SEEK_END)
    image.fp.seek(position)
    if image.width * image.height > _LONGEST_RUN * size:
        raise ValueError(f"{image.width}×{image.height} pixels in {size} bytes; expected at most {_LONGEST_RUN} a byte")


def png_kind(path: Path) -> tuple[int, int]:
    """Read bit depth and color type from the header chunk (PNG specification, section 11.2.1)."""
    with path.open("rb") as file:
        depth, color_type = file.read(26)[24:]
    return depth, color_type


def read_with_tifffile(path: Path) -> np.ndarray:
    """Read the displayed pixels (H, W, C) of a TIFF. Raises one of `DECODING_ERRORS`."""
    return single_page(path, page_pixels)


def single_page(path: Path, read: Callable[[tifffile.TiffPage], T]) -> T:
    """Apply `read` to the only page of a TIFF. Raises `InputError` unless it is a single image."""
    with tifffile.TiffFile(path) as tiff:
        # tiff.series may open other files, and does not return for some damaged files.
        if len(tiff.pages) > 1:
            raise InputError(f"{path}: holds a stack of {len(tiff.pages)} pages; expected a single image")
        page = tiff.pages.first
        check_size(page.imagelength, page.imagewidth, page.samplesperpixel)
        if page.axes not in PLANES:
            raise InputError(f"{path}: holds a stack with axes {page.axes}; expected a single image")
        return read(page)


def page_pixels(page: tifffile.TiffPage) -> np.ndarray:
    """Decode the displayed pixels (H, W, C) of a page with axes in `PLANES`; alpha of RGB is dropped."""
    array = page_values(page)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        array = _inverted(array, page.bitspersample)
    return np.ascontiguousarray(array[..., :3] if page.photometric == tifffile.PHOTOMETRIC.RGB else array)


def page_values(page: tifffile.TiffPage) -> np.ndarray:
    """Decode the stored values (H, W, C) of a page with axes in `PLANES`, and apply its orientation."""
    array = page.asarray()
    array = array[..., None] if page.axes == "YX" else np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
    return orient(array, page_orientation(page))


def page_orientation(page: tifffile.TiffPage) -> int:
    """Read the EXIF orientation of a page."""
    return valid_orientation(page.tags.valueof(ORIENTATION))


def read_orientation(image: ImageFile) -> int:
    """Read the EXIF orientation, 1 to 8, of an opened image without decoding it; 1 if it is missing or invalid.

    In a PNG only EXIF before the pixels counts, as in browsers; XMP is ignored.
    """
    if isinstance(image, TiffImageFile):
        return valid_orientation(image.tag_v2.get(ORIENTATION))
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
        return valid_orientation(exif.get(ORIENTATION))
    except Exception:  # noqa: BLE001 - damaged EXIF, on which parsers fail in every way, orients nothing
        return UPRIGHT


def valid_orientation(orientation: object) -> int:
    """Return a valid orientation unchanged, and 1 for any other value."""
    return int(orientation) if isinstance(orientation, int) and 1 <= orientation <= 8 else UPRIGHT


def swaps_axes(orientation: int) -> bool:
    """Check whether an orientation swaps height and width."""
    return orientation >= 5


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to stored pixels (H, W, …); a view, (W, H, …) for orientations 5 to 8."""
    # Displayed position of stored row 0 and column 0: 1 top left, 2 top right, 3 bottom right, 4 bottom left,
    # 5 left top, 6 right top, 7 right bottom, 8 left bottom.
    if swaps_axes(orientation):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def check_scans(data: bytes) -> None:
    """Raise `InputError` for a JPEG with more than `MOST_SCANS` scans, without decoding it."""
    # Every scan begins with these two bytes, so this bound suffices for most files.
    if data.count(bytes([0xFF, _SCAN])) <= MOST_SCANS:
        return
    scans, position = 0, len(_START)
    while (found := _MARKER.search(data, position)) is not None:
        kind, position = found[1][0], found.end()
        if kind == _END:
            return
        if kind in (0x01, _START[1]):  # markers without a segment
            continue
        scans += kind == _SCAN
        if scans > MOST_SCANS:
            raise InputError(f"JPEG with more than {MOST_SCANS} scans; expected at most that many")
        position += int.from_bytes(data[position : position + 2])
