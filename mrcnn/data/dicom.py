"""DICOM images as a radiologist's screen shows them, and what their headers tell that a training may know."""

from __future__ import annotations

import hashlib
import hmac
import math
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from mrcnn.data.images import check_size
from mrcnn.data.patient_salt import patient_salt
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

# What pydicom raises where elements are missing, or the codec of compressed pixels is.
_UNREADABLE = (InvalidDicomError, BytesLengthException, AttributeError, KeyError, NotImplementedError, RuntimeError)
_CENTIMETRES, _TWO_D = 3, 1  # DICOM PS3.3, C.8.5.5.1.15 and C.8.5.5.1.1
_PURPOSE = "medmrcnn patient pseudonym 2"


def read_dicom(path: Path) -> np.ndarray:
    """(H, W, C) pixels: uint8 where the file holds 8 bits and no rescaling, else float32.

    Grey values go through the modality's rescaling and the first window or VOI table of the file, and are inverted
    where the file says that its lowest value is white. Colour comes as RGB.

    Raises:
        InputError: no pixels, or several frames.
        ValueError: other damage, or pixels compressed in a way that no installed library knows.
    """
    try:
        dataset = pydicom.dcmread(path)
        _check(dataset, path)
        return shown_pixels(dataset)
    except _UNREADABLE as error:
        raise ValueError(error) from error


def read_dicom_header(path: Path) -> tuple[int, int, Spacing | None, str | None]:
    """(height, width, spacing in mm, pseudonym of the patient) without decoding. Raises as `read_dicom` does."""
    try:
        dataset = pydicom.dcmread(path, defer_size=1024)
        _check(dataset, path)
        return int(dataset.Rows), int(dataset.Columns), spacing_of(dataset), pseudonym(dataset)
    except _UNREADABLE as error:
        raise ValueError(error) from error


def shown_pixels(dataset: pydicom.Dataset) -> np.ndarray:
    """(H, W, C) of an opened file of one frame, as `read_dicom` returns them."""
    pixels = pixel_array(dataset)
    photometric = dataset.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    if pixels.ndim == 3:
        return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
    shown = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
    if pixels.dtype == np.uint8 and "ModalityLUTSequence" not in dataset and _is_plain(dataset):
        shown = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        return (255 - shown if photometric == "MONOCHROME1" else shown)[..., None]
    shown = shown.astype(np.float32)
    return (shown.max() + shown.min() - shown if photometric == "MONOCHROME1" else shown)[..., None]


def pseudonym(dataset: pydicom.Dataset) -> str | None:
    """16 hexadecimal digits that stand for a patient, the same in every file of theirs; None without a PatientID.

    A keyed hash (HMAC-SHA-256) of PatientID and its issuer; names and dates of birth are never looked at. The key is
    secret (`mrcnn.data.patient_salt`): without it a list of all identities of a hospital tells nothing of a pseudonym.

    Raises:
        InputError: the secret cannot be made or read.
    """
    patient = str(dataset.get("PatientID") or "").strip()
    if not patient:
        return None
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    return hmac.new(patient_salt(), f"{_PURPOSE}\0{issuer}\0{patient}".encode(), hashlib.sha256).hexdigest()[:16]


def _check(dataset: pydicom.Dataset, path: Path) -> None:
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise InputError(
            f"{path}: DICOM without pixels (modality {dataset.get('Modality', 'unknown')}); expected an image"
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise InputError(f"{path}: DICOM with {frames} frames; expected a single image")
    check_size(int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))


def _is_plain(dataset: pydicom.Dataset) -> bool:
    return float(dataset.get("RescaleSlope") or 1) == 1 and float(dataset.get("RescaleIntercept") or 0) == 0


def spacing_of(dataset: pydicom.Dataset) -> Spacing | None:
    """(row, column) in mm: PixelSpacing, or of the largest calibrated 2-D region of an ultrasound image."""
    given = dataset.get("PixelSpacing")
    if given and len(given) == 2 and all(0 < side < math.inf for side in given):
        return float(given[0]), float(given[1])
    best, largest = None, 0
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        units = region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")
        # Deltas may be negative, where an axis runs the other way.
        deltas = abs(region.get("PhysicalDeltaY") or 0), abs(region.get("PhysicalDeltaX") or 0)
        if units != (_CENTIMETRES, _CENTIMETRES) or not all(deltas) or region.get("RegionSpatialFormat", 1) != _TWO_D:
            continue
        area = (region.RegionLocationMaxX1 - region.RegionLocationMinX0) * (
            region.RegionLocationMaxY1 - region.RegionLocationMinY0
        )
        if area > largest:
            best, largest = (10 * float(deltas[0]), 10 * float(deltas[1])), area
    return best
