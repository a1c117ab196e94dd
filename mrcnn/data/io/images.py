"""Read image files of any format as arrays, and their headers without decoding pixels."""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mrcnn.data.io.pictures import (
    DECODING_ERRORS,
    TIFF_SUFFIXES,
    UPRIGHT,
    check_size,
    needs_tifffile,
    open_picture_header,
    page_orientation,
    read_orientation,
    read_with_pillow,
    read_with_tifffile,
    swaps_axes,
)
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

HEAD_BYTES = 512
"""Bytes from the start of a file that suffice to recognize DICOM."""
_FIRST_GROUPS = (0x0002, 0x0008)  # file meta information, or a data set without it
_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)  # PS3.5, 6.2
_LONG_LENGTHS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5, 7.1.2: after two reserved bytes
_UNDEFINED = 0xFFFFFFFF
_OTHER_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read the displayed pixels of a PNG, JPEG, TIFF, BMP or DICOM file; for masks see `read_label_image`.

    Alpha is dropped, a palette becomes RGB, a WhiteIsZero TIFF is inverted, and the EXIF orientation is applied, as in
    browsers and most annotation tools.

    Returns:
        (H, W, C) uint8, or float32 in the units of the file if it has more than 8 bits.

    Raises:
        InputError: the file is missing, damaged, of several pages, of another format, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        if _is_dicom(path):
            from mrcnn.data.io.dicom import read_dicom  # importing pydicom takes a third of a second

            array = read_dicom(path)
        elif needs_tifffile(path):
            array = read_with_tifffile(path)
        else:
            array = read_with_pillow(path)
    except DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    # A damaged TIFF may have inconsistent headers.
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {array.dtype} of shape {array.shape}; expected an image of numbers")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: pixels are NaN or infinite; expected finite numbers")
    return array


@dataclass(frozen=True)
class ImageHeader:
    """Describe an image file.

    Attributes:
        height: height of the displayed image in pixels.
        width: width of the displayed image in pixels.
        spacing_mm: (row, column) size of a pixel, or None.
        patient_id: pseudonym, or None.
        orientation: EXIF orientation of the file, which `read_image` applies.
    """

    height: int
    width: int
    spacing_mm: Spacing | None = None
    patient_id: str | None = None
    orientation: int = UPRIGHT


def read_header(path: str | os.PathLike) -> ImageHeader:
    """Read the header of an image file without decoding pixels. Raises `InputError` like `read_image`."""
    path = Path(path)
    try:
        if _is_dicom(path):
            from mrcnn.data.io.dicom import read_dicom_header

            return ImageHeader(*read_dicom_header(path))
        if needs_tifffile(path):
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                check_size(page.imagelength, page.imagewidth, page.samplesperpixel)
                height, width, orientation = page.imagelength, page.imagewidth, page_orientation(page)
                swapped = swaps_axes(orientation)
        else:
            with open_picture_header(path) as image:
                height, width, orientation = image.height, image.width, read_orientation(image)
                swapped = swaps_axes(orientation) and image.format != "TIFF"  # Pillow returns a TIFF's displayed size
        if swapped:
            height, width = width, height
        return ImageHeader(height, width, orientation=orientation)
    except DECODING_ERRORS as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file")
    if path.is_file() and not path.stat().st_size:
        return InputError(f"{path}: is empty (0 bytes); expected a PNG, JPEG, TIFF, BMP or DICOM image")
    return InputError(f"{path}: expected a readable PNG, JPEG, TIFF, BMP or DICOM image ({error})")


def _is_dicom(path: Path) -> bool:
    """Check a file for DICOM by its content unless it has the suffix of another form; many DICOM files have none."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is a folder, pipe or device; expected a file")  # reading it may never end
    if path.suffix.lower() in _OTHER_SUFFIXES:
        return False
    return is_dicom_file(path)


def is_dicom_file(path: Path) -> bool:
    """Check whether a file is DICOM by its first bytes. Raises `OSError` if it cannot be read."""
    with path.open("rb") as file:
        return is_dicom(file.read(HEAD_BYTES))


def is_dicom(head: bytes) -> bool:
    """Check whether the first `HEAD_BYTES` of a file, or all bytes of a shorter file, are DICOM.

    Most files have `DICM` after a preamble of 128 bytes (PS3.10, 7.1). Others begin with the file meta information
    (group 0002) or the data set (group 0008) in one of three encodings of elements (PS3.5, 7.1). Their first two
    elements must be well-formed and in order, because other file formats may begin with the same two bytes.
    """
    if head[128:132] == b"DICM":
        return True
    return any(_begins_with_elements(head, order, explicit) for order, explicit in (("<", 1), ("<", 0), (">", 1)))


def _begins_with_elements(head: bytes, order: str, explicit: int) -> bool:
    position, before = 0, (0, -1)
    for _ in range(2):
        if position + 12 > len(head):
            return position > 0  # the first element is longer than the head
        tag = struct.unpack_from(f"{order}HH", head, position)
        if tag <= before or tag[0] > 0x0020 or (not position and tag[0] not in _FIRST_GROUPS):
            return False
        representation = head[position + 4 : position + 6]
        if not explicit:
            (length,) = struct.unpack_from(f"{order}I", head, position + 4)
            position += 8
        elif representation not in _VALUE_REPRESENTATIONS:
            return False
        elif representation in _LONG_LENGTHS:
            (length,) = struct.unpack_from(f"{order}I", head, position + 8)
            position += 12
        else:
            (length,) = struct.unpack_from(f"{order}H", head, position + 6)
            position += 8
        if length == _UNDEFINED:
            return explicit == 1
        if length % 2 or length > 1 << 16:  # the first elements of group 0008 are short codes, UIDs and dates
            return False
        position, before = position + length, tag
    return True
