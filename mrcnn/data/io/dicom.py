"""DICOM images as a radiologist's screen shows them, and what their headers tell that a training may know."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut, apply_windowing

from mrcnn.data.io.dicom_file import check_single_image, decoded, numbers, open_dicom, own_words, text, whole_number
from mrcnn.data.io.dicom_lookup_tables import palette_colors, table_values
from mrcnn.data.io.pictures import check_size
from mrcnn.data.io.pseudonyms import patient_salt
from mrcnn.data.readers.names import normalize_patient_id
from mrcnn.data.sample import SPACING_MM, Spacing
from mrcnn.errors import InputError

_CENTIMETRES, _TWO_D = 3, 1  # DICOM PS3.3, C.8.5.5.1.15 and C.8.5.5.1.1
_LEAST_WIDTH = {"LINEAR": 1.0, "LINEAR_EXACT": 0.0, "SIGMOID": 0.0}  # of a window; beyond 0 of the last two (C.11.2)
_PURPOSE = "medmrcnn patient pseudonym 2"


def read_dicom(path: Path) -> np.ndarray:
    """(H, W, C) pixels: uint8 where the file holds 8 bits and no rescaling, else float32.

    Grey values go through the modality's rescaling and the first sound window or VOI table of the file, and are
    inverted where the file says that its lowest value is white. Colour comes as RGB.

    Raises:
        InputError: no pixels, several frames, no picture, damage, or pixels compressed in a way that no installed
            library knows.
    """
    with own_words(path):
        dataset = open_dicom(path)
        _check(dataset)
        return displayed_pixels(dataset)


def read_dicom_header(path: Path) -> tuple[int, int, Spacing | None, str | None]:
    """(height, width, spacing in mm, pseudonym of the patient) without decoding. Raises as `read_dicom` does."""
    with own_words(path):
        dataset = open_dicom(path)
        height, width = _check(dataset)
        return height, width, spacing_of(dataset), pseudonym(dataset)


def displayed_pixels(dataset: pydicom.Dataset) -> np.ndarray:
    """(H, W, C) of an opened file of one frame, as `read_dicom` returns them."""
    pixels = decoded(dataset)
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    photometric = text(dataset, "PhotometricInterpretation")
    if photometric == "PALETTE COLOR":
        return palette_colors(pixels, dataset, little)
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    shown, is_byte = _valued(pixels, dataset, little)
    if is_byte:
        shown = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        return (255 - shown if photometric == "MONOCHROME1" else shown)[..., None]
    shown = shown.astype(np.float32)
    return (shown.max() + shown.min() - shown if photometric == "MONOCHROME1" else shown)[..., None]


def pseudonym(dataset: pydicom.Dataset) -> str | None:
    """16 hexadecimal digits that stand for a patient, the same in every file of theirs; None without a PatientID.

    A keyed hash (HMAC-SHA-256) of PatientID, whatever its letter case, and its issuer; names and dates of birth are
    never looked at. The key is secret (`mrcnn.data.io.pseudonyms`): without it a list of all identities of a hospital
    tells nothing of a pseudonym.

    Raises:
        InputError: the secret cannot be made or read.
    """
    patient = normalize_patient_id(text(dataset, "PatientID"))
    if patient is None:
        return None
    issuer = text(dataset, "IssuerOfPatientID")
    whose = f"{_PURPOSE}\0{issuer}\0{patient.casefold()}"
    return hmac.new(patient_salt(), whose.encode(), hashlib.sha256).hexdigest()[:16]


def _check(dataset: pydicom.Dataset) -> tuple[int, int]:
    height, width = check_single_image(dataset)
    try:
        check_size(height, width, whole_number(dataset, "SamplesPerPixel", 1))
    except ValueError as error:
        raise InputError(str(error)) from None
    return height, width


def _valued(pixels: np.ndarray, dataset: pydicom.Dataset, little: bool) -> tuple[np.ndarray, bool]:
    """Grey values after the tables and windows of the file, and whether they are those of 8-bit pixels still."""
    is_byte = pixels.dtype == np.uint8
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
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
    """The number of the first window that can be applied, None without any; the others are views to choose from.

    Raises:
        InputError: none of them can.
    """
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centers and not widths:
        for name in ("WindowCenter", "WindowWidth"):
            dataset.pop(name, None)
        return None
    function = text(dataset, "VOILUTFunction").upper() or "LINEAR"
    if function not in _LEAST_WIDTH:
        raise InputError(f"VOILUTFunction (DICOM): expected {', '.join(_LEAST_WIDTH)}")
    if len(centers) != len(widths):
        raise InputError(f"WindowCenter, WindowWidth (DICOM): {len(centers)} and {len(widths)} values; expected pairs")
    least = _LEAST_WIDTH[function]
    for number, width in enumerate(widths):
        if width > 0 and width >= least:
            return number
    raise InputError(f"WindowWidth (DICOM): {widths[0]:g}; expected at least 1, or above 0 where not LINEAR")


def spacing_of(dataset: pydicom.Dataset) -> Spacing | None:
    """(row, column) in mm, or None where the file does not tell it, or not soundly.

    PixelSpacing; of a projection that has none, ImagerPixelSpacing at the detector over the magnification of the
    patient; else of the largest calibrated 2-D region of an ultrasound image.
    """
    if "PixelSpacing" in dataset:
        if (stated := _pair(dataset, "PixelSpacing")) is not None:
            return stated
    elif (at_detector := _pair(dataset, "ImagerPixelSpacing")) is not None:
        magnification = _sound(dataset, "EstimatedRadiographicMagnificationFactor")
        if len(magnification) == 1 and magnification[0] >= 1:
            return at_detector[0] / magnification[0], at_detector[1] / magnification[0]
    best, largest = None, 0.0
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = _sound(region, "PhysicalUnitsXDirection") + _sound(region, "PhysicalUnitsYDirection")
        # Deltas may be negative, where an axis runs the other way.
        sides = [10 * abs(side) for name in "YX" for side in _sound(region, f"PhysicalDelta{name}")]
        is_flat = (_sound(region, "RegionSpatialFormat") or [_TWO_D]) == [_TWO_D]
        edges = [
            _sound(region, f"RegionLocation{edge}") for edge in ("MinX0", "MaxX1", "MinY0", "MaxY1")
        ]  # fmt: skip
        if units != [_CENTIMETRES] * 2 or not is_flat or not _is_spacing(sides) or any(len(e) != 1 for e in edges):
            continue
        (left,), (right,), (top,), (bottom,) = edges
        if (area := (right - left) * (bottom - top)) > largest:
            best, largest = (sides[0], sides[1]), area
    return best


def _pair(dataset: pydicom.Dataset, keyword: str) -> Spacing | None:
    given = _sound(dataset, keyword)
    return (given[0], given[1]) if _is_spacing(given) else None


def _is_spacing(sides: list[float]) -> bool:
    return len(sides) == 2 and all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in sides)


def _sound(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """The numbers of an element; none where they are not sound."""
    try:
        return numbers(dataset, keyword)
    except InputError:
        return []
