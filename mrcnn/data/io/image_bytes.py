"""Decode untrusted image files in memory, with limits that are checked on the header before pixels are decoded.

No path or URL is opened: a TIFF that references other files is read from its own first page. From DICOM only the
elements needed for the pixels are read, so that no result or error contains the name of a patient.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mrcnn.data.io.images import HEAD_BYTES, is_dicom
from mrcnn.data.io.pictures import (
    DECODING_ERRORS,
    FORMATS,
    JPEGS,
    PLANES,
    changes_values,
    check_scans,
    page_pixels,
    picture_pixels,
)
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

MAX_PIXELS = 1 << 24
"""Default limit of rows times columns."""
EXPECTED = "a PNG, JPEG, TIFF, BMP or DICOM image"

_TIFF_MARKS = (b"II*\0", b"MM\0*")
_DEEP_COLORS = (2, 4, 6)  # PNG color types of several channels
_MOST_SAMPLES = 16
_DICOM_ELEMENTS = (
    "Modality", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing",
    "SequenceOfUltrasoundRegions", "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
    "FloatPixelData", "DoubleFloatPixelData", "SOPClassUID", "ImagerPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
)  # fmt: skip


def decode_image(data: bytes, most_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, Spacing | None]:
    """Decode an image file like `read_image`.

    Returns:
        (H, W, C) uint8, or float32 in the units of the file if it has more than 8 bits; and the (row, column) size of a
        pixel in mm, or None.

    Raises:
        InputError: the file is not an image, is damaged, has several pages or frames or more than `most_pixels`, or
            has a compression without bound.
    """
    if not data:
        raise InputError(f"no bytes; expected {EXPECTED}")
    try:
        if is_dicom(data[:HEAD_BYTES]):
            array, spacing = _decode_dicom(data, most_pixels)
        else:
            array, spacing = _decode_picture(data, most_pixels), None
    except InputError:
        raise
    except DECODING_ERRORS as error:
        raise InputError(f"damaged image ({error}); expected {EXPECTED}, whole") from error
    if array.ndim != 3 or 0 in array.shape:  # result of tifffile for a page with data in another file
        raise InputError(f"damaged image; expected {EXPECTED}, whole")
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError("pixels are NaN or infinite; expected finite numbers")
    return array, spacing


def check_pixel_count(height: int, width: int, most_pixels: int) -> None:
    """Raise `InputError` unless an image has 1 to `most_pixels` pixels."""
    if height < 1 or width < 1:
        raise InputError(f"{height} rows, {width} columns; expected at least 1 of each")
    if height * width > most_pixels:
        raise InputError(f"{height} × {width} pixels; expected at most {most_pixels} in all")


def _decode_picture(data: bytes, most_pixels: int) -> np.ndarray:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"more than {most_pixels} pixels; expected at most that many") from error
    except Image.UnidentifiedImageError as error:
        if data[:4] in _TIFF_MARKS:
            return _decode_deep_tiff(data, most_pixels)
        raise InputError(f"expected {EXPECTED}") from error
    with image:
        check_pixel_count(image.height, image.width, most_pixels)
        if image.format in JPEGS:
            check_scans(data)
        if image.format == "PNG" and data[24] == 16 and data[25] in _DEEP_COLORS:
            raise InputError("PNG of 16 bits and several channels; expected 8 bits, or 16 bits of gray")
        if isinstance(image, TiffImageFile):
            if image.n_frames > 1:
                raise InputError("TIFF of several pages; expected a single image")
            if changes_values(image):
                return _decode_deep_tiff(data, most_pixels)
        return picture_pixels(image)


def _decode_deep_tiff(data: bytes, most_pixels: int) -> np.ndarray:
    """Decode an uncompressed TIFF whose values Pillow would change; tifffile's codecs have no size limit."""
    with tifffile.TiffFile(BytesIO(data)) as tiff:
        if len(tiff.pages) > 1:
            raise InputError("TIFF of several pages; expected a single image")
        page = tiff.pages.first
        check_pixel_count(page.imagelength, page.imagewidth, most_pixels)
        if page.axes not in PLANES or page.samplesperpixel > _MOST_SAMPLES:
            raise InputError(f"TIFF with axes {page.axes}; expected a single image of at most {_MOST_SAMPLES} channels")
        if page.compression != tifffile.COMPRESSION.NONE:
            raise InputError("compressed TIFF of signed bytes, or of several deep channels; expected it uncompressed")
        return page_pixels(page)


def _decode_dicom(data: bytes, most_pixels: int) -> tuple[np.ndarray, Spacing | None]:
    from mrcnn.data.io.dicom import displayed_pixels, pixel_spacing
    from mrcnn.data.io.dicom_file import check_single_image, open_dicom, translate_errors

    with translate_errors():
        dataset = open_dicom(BytesIO(data), _DICOM_ELEMENTS)
        check_pixel_count(*check_single_image(dataset), most_pixels)
        return displayed_pixels(dataset), pixel_spacing(dataset)
