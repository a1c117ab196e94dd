"""Read image files of any kind as arrays, and their headers without decoding them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mrcnn.data.io.file_types import HEAD_BYTES, is_dicom
from mrcnn.data.io.orientation import UPRIGHT, orientation_of, swaps_sides
from mrcnn.data.io.pictures import (
    DECODING_ERRORS,
    TIFF_SUFFIXES,
    check_size,
    needs_tifffile,
    open_picture_header,
    page_orientation,
    read_with_pillow,
    read_with_tifffile,
)
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_OTHER_SUFFIXES = (*TIFF_SUFFIXES, ".png", ".jpg", ".jpeg", ".bmp")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The pixels of a PNG, JPEG, TIFF, BMP or DICOM file, as they are shown; label images have a reader of their own.

    Alpha is dropped, a palette becomes RGB, a TIFF whose 0 is white is inverted, and the EXIF orientation is applied,
    as browsers and most tools do: annotations are made on the picture that they show.

    Returns:
        (H, W, C) uint8, or float32 in the file's own units where it holds more than 8 bits.

    Raises:
        InputError: the file is missing, damaged, of several pages, larger than `MAX_PIXELS`, or of a kind that is
            not read.
    """
    path = Path(path)
    try:
        if _is_dicom(path):
            from mrcnn.data.io.dicom import read_dicom  # a third of a second that only those who have DICOM should wait

            array = read_dicom(path)
        elif needs_tifffile(path):
            array = read_with_tifffile(path)
        else:
            array = read_with_pillow(path)
    except DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    # What a damaged TIFF says of its own parts may not fit together.
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        raise InputError(f"{path}: holds {array.dtype} of shape {array.shape}; expected an image of numbers")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{path}: pixels are NaN or infinite; expected finite numbers")
    return array


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself: size in pixels, and where it tells them the size of a pixel and the patient.

    Attributes:
        height: as the picture is shown.
        width: as the picture is shown.
        spacing_mm: (row, column), or None.
        patient_id: a pseudonym, or None.
        orientation: EXIF orientation in the file, which `read_image` applies.
    """

    height: int
    width: int
    spacing_mm: Spacing | None = None
    patient_id: str | None = None
    orientation: int = UPRIGHT


def read_header(path: str | os.PathLike) -> ImageHeader:
    """The header of an image file, without decoding its pixels. Raises `InputError` as `read_image` does."""
    path = Path(path)
    try:
        if _is_dicom(path):
            from mrcnn.data.io.dicom import read_dicom_header

            return ImageHeader(*read_dicom_header(path))
        if needs_tifffile(path):
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages[0]
                check_size(page.imagelength, page.imagewidth, page.samplesperpixel)
                size, orientation = (page.imagelength, page.imagewidth), page_orientation(page)
                return ImageHeader(*size[:: -1 if swaps_sides(orientation) else 1], orientation=orientation)
        with open_picture_header(path) as image:
            size, orientation = (image.height, image.width), orientation_of(image)
            swapped = swaps_sides(orientation) and image.format != "TIFF"  # of which Pillow states the shown size
            return ImageHeader(*size[:: -1 if swapped else 1], orientation=orientation)
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
    """Whether a file is DICOM: by its first bytes, as many such files have no suffix."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise InputError(f"{path}: is a folder, pipe or device; expected a file")  # reading one may never end
    if path.suffix.lower() in _OTHER_SUFFIXES:
        return False
    with path.open("rb") as file:
        return is_dicom(file.read(HEAD_BYTES))
