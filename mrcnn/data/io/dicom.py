"""Read DICOM images with display windowing, and pixel spacing and patient pseudonym from their headers."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from mrcnn.data.io.dicom_file import (
    check_image,
    check_single_image,
    decode_pixels,
    element_integer,
    element_numbers,
    element_text,
    open_dicom,
    translate_errors,
)
from mrcnn.data.io.dicom_lookup_tables import palette_colors, table_values
from mrcnn.data.io.pictures import check_size
from mrcnn.data.io.pseudonyms import patient_salt
from mrcnn.data.names import normalize_patient_id
from mrcnn.data.sample import SPACING_MM, Spacing
from mrcnn.errors import InputError

_CENTIMETERS, _TWO_D = 3, 1  # DICOM PS3.3, C.8.5.5.1.15 and C.8.5.5.1.1
_MIN_WIDTH = {
    "LINEAR": 1.0,
    "LINEAR_EXACT": 0.0,
    "SIGMOID": 0.0,
}  # of a window (C.11.2)
_PURPOSE = "medmrcnn patient pseudonym 2"


def read_dicom(path: Path) -> np.ndarray:
    """Read (H, W, C) pixels: uint8 if the file has 8 bits and no rescaling, else float32.

    Gray values pass the modality rescaling and the first valid window or VOI table of the file, and are inverted for
    MONOCHROME1. Color images are RGB.

    Raises:
        InputError: the file has no pixels or several frames, is not an image, is damaged, or has a compression that no
            installed library decodes.
    """
    with translate_errors(path):
        dataset = open_dicom(path)
        _check(dataset)
        return displayed_pixels(dataset)


def read_dicom_frame(path: Path, frame: int) -> np.ndarray:
    """Read the (H, W, C) pixels of a frame like `read_dicom`. Raises `InputError` likewise, or without that frame."""
    with translate_errors(path):
        dataset = open_dicom(path)
        check_size(*check_image(dataset), element_integer(dataset, "SamplesPerPixel", 1))
        if not 0 <= frame < element_integer(dataset, "NumberOfFrames", 1):
            raise InputError(f"has no frame {frame}; expected one less than NumberOfFrames")
        return displayed_pixels(dataset, frame if "NumberOfFrames" in dataset else None)


def read_frames_header(path: Path) -> tuple[int, int, int, Spacing | None]:
    """Read the number of frames, height, width and spacing in mm without decoding. Raises like `read_dicom_frame`."""
    with translate_errors(path):
        dataset = open_dicom(path)
        return element_integer(dataset, "NumberOfFrames", 1), *check_image(dataset), pixel_spacing(dataset)


def count_frames(path: Path) -> int:
    """Return the number of frames of a DICOM file; 1 if it states none or cannot be read."""
    try:
        with translate_errors(path):
            return element_integer(open_dicom(path, ("NumberOfFrames",), pixels=False), "NumberOfFrames", 1)
    except InputError:
        return 1


def read_dicom_header(path: Path) -> tuple[int, int, Spacing | None, str | None]:
    """Read height, width, spacing in mm and patient pseudonym without decoding. Raises like `read_dicom`."""
    with translate_errors(path):
        dataset = open_dicom(path)
        height, width = _check(dataset)
        return height, width, pixel_spacing(dataset), pseudonym(dataset)


def displayed_pixels(dataset: pydicom.Dataset, frame: int | None = None) -> np.ndarray:
    """Decode the (H, W, C) pixels of `read_dicom` from an opened file of one frame, or of one of its frames."""
    pixels = decode_pixels(dataset, frame)
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    photometric = element_text(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return palette_colors(pixels, dataset, little)
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    shown, is_byte = _apply_tables(pixels, dataset, little)
    if is_byte:
        shown = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        return (255 - shown if photometric == "MONOCHROME1" else shown)[..., None]
    shown = shown.astype(np.float32)
    return (shown.max() + shown.min() - shown if photometric == "MONOCHROME1" else shown)[..., None]


def pseudonym(dataset: pydicom.Dataset) -> str | None:
    """Compute a pseudonym of 16 hexadecimal digits, equal in all files of a patient; None without a PatientID.

    It is a keyed hash (HMAC-SHA-256) of PatientID, ignoring letter case, and its issuer; names and dates of birth are
    not read. The key is secret (`mrcnn.data.io.pseudonyms`): without it, a list of all patients of a hospital does not
    reveal the identity.

    Raises:
        InputError: the secret cannot be created or read.
    """
    patient = normalize_patient_id(element_text(dataset, "PatientID"))
    if patient is None:
        return None
    issuer = element_text(dataset, "IssuerOfPatientID")
    whose = f"{_PURPOSE}\0{issuer}\0{patient.casefold()}"
    return hmac.new(patient_salt(), whose.encode(), hashlib.sha256).hexdigest()[:16]


def _check(dataset: pydicom.Dataset) -> tuple[int, int]:
    height, width = check_single_image(dataset)
    try:
        check_size(height, width, element_integer(dataset, "SamplesPerPixel", 1))
    except ValueError as error:
        raise InputError(str(error)) from None
    return height, width


def _apply_tables(pixels: np.ndarray, dataset: pydicom.Dataset, little: bool) -> tuple[np.ndarray, bool]:
    """Apply the lookup tables and windows of the file, and return whether the values are still 8-bit."""
    is_byte = pixels.dtype == np.uint8
    slope, intercept = element_numbers(dataset, "RescaleSlope"), element_numbers(dataset, "RescaleIntercept")
    if slope and not slope[0]:
        raise InputError("RescaleSlope (DICOM): 0, which makes all pixels one; expected another number")
    if modality := dataset.get("ModalityLUTSequence"):
        pixels, _ = table_values(pixels, modality[0], little)
        is_byte = False
    else:
        is_byte &= slope in ([], [1]) and intercept in ([], [0])
        pixels = apply_modality_lut(pixels, dataset)
    if table := dataset.get("VOILUTSequence"):
        pixels, bits = table_values(pixels, table[0], little)
        return pixels, is_byte and bits <= 8
    window = _window(dataset)
    return pixels if window is None else apply_windowing(pixels, dataset, window), is_byte


def _window(dataset: pydicom.Dataset) -> int | None:
    """Return the index of the first valid window; None without windows.

    Raises:
        InputError: no window is valid.
    """
    centers, widths = element_numbers(dataset, "WindowCenter"), element_numbers(dataset, "WindowWidth")
    if not centers and not widths:
        for name in ("WindowCenter", "WindowWidth"):
            dataset.pop(name, None)
        return None
    function = element_text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function not in _MIN_WIDTH:
        raise InputError(f"VOILUTFunction (DICOM): expected {', '.join(_MIN_WIDTH)}")
    if len(centers) != len(widths):
        raise InputError(f"WindowCenter, WindowWidth (DICOM): {len(centers)} and {len(widths)} values; expected pairs")
    minimum = _MIN_WIDTH[function]
    for number, width in enumerate(widths):
        if width > 0 and width >= minimum:
            return number
    raise InputError(f"WindowWidth (DICOM): {widths[0]:g}; expected at least 1, or above 0 where not LINEAR")


def pixel_spacing(dataset: pydicom.Dataset) -> Spacing | None:
    """Return the (row, column) pixel spacing in mm, or None if it is missing or invalid.

    Sources in order: PixelSpacing; for projections, ImagerPixelSpacing at the detector divided by the magnification of
    the patient; the largest calibrated 2-D region of an ultrasound image.
    """
    if "PixelSpacing" in dataset:
        if (stated := _pair(dataset, "PixelSpacing")) is not None:
            return stated
    elif (at_detector := _pair(dataset, "ImagerPixelSpacing")) is not None:
        magnification = _valid_numbers(dataset, "EstimatedRadiographicMagnificationFactor")
        if len(magnification) == 1 and magnification[0] >= 1:
            return at_detector[0] / magnification[0], at_detector[1] / magnification[0]
    best, largest = None, 0.0
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = _valid_numbers(region, "PhysicalUnitsXDirection") + _valid_numbers(region, "PhysicalUnitsYDirection")
        # Deltas are negative if an axis is reversed.
        sides = [10 * abs(side) for name in "YX" for side in _valid_numbers(region, f"PhysicalDelta{name}")]
        is_flat = (_valid_numbers(region, "RegionSpatialFormat") or [_TWO_D]) == [_TWO_D]
        edges = [
            _valid_numbers(region, f"RegionLocation{edge}") for edge in ("MinX0", "MaxX1", "MinY0", "MaxY1")
        ]  # fmt: skip
        if units != [_CENTIMETERS] * 2 or not is_flat or not _is_spacing(sides) or any(len(e) != 1 for e in edges):
            continue
        (left,), (right,), (top,), (bottom,) = edges
        if (area := (right - left) * (bottom - top)) > largest:
            best, largest = (sides[0], sides[1]), area
    return best


def _pair(dataset: pydicom.Dataset, keyword: str) -> Spacing | None:
    sides = _valid_numbers(dataset, keyword)
    return (sides[0], sides[1]) if _is_spacing(sides) else None


def _is_spacing(sides: list[float]) -> bool:
    return len(sides) == 2 and all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in sides)


def _valid_numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Return the numbers of an element; an empty list if they are invalid."""
    try:
        return element_numbers(dataset, keyword)
    except InputError:
        return []
