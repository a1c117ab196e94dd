"""Open DICOM files with or without preamble, check their kind, and read elements and stored pixels.

Messages of pydicom and its decoders may quote patient data of the file. So errors are replaced by messages of this
project, and warnings and logs of these libraries are disabled.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom import config, filereader
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGTransferSyntaxes,
)

from mrcnn.data.io.pictures import DECODING_ERRORS, check_scans
from mrcnn.errors import InputError

for _library in ("pydicom", "highdicom"):
    logging.getLogger(_library).propagate = False  # also disables child loggers
    logging.getLogger(_library).addFilter(lambda record: False)
    warnings.filterwarnings("ignore", module=rf"{_library}(\.|$)")
config.settings.reading_validation_mode = config.IGNORE  # values are validated below

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66."  # prefix of their UIDs; pydicom does not know the newest
_PICTURES = ("Image", "US Volume")
"""The name of every storage class of images contains one of these (PS3.4, B.5)."""
_OTHER_MODALITIES = {
    "SR": "structured report", "PR": "presentation state", "KO": "key object selection", "SEG": "segmentation",
    "RTDOSE": "RT dose", "RTSTRUCT": "RT structure set", "RTPLAN": "RT plan", "REG": "registration",
    "DOC": "document", "AU": "audio", "ECG": "electrocardiogram", "PLAN": "plan", "FID": "fiducials",
    "RWV": "real world value map", "SMR": "stereometric relationship", "OPV": "visual field measurements",
}  # fmt: skip
DAMAGED = "damaged DICOM, or cut short; expected an image, whole"


@contextmanager
def translate_errors(subject: object = None) -> Iterator[None]:
    """Replace errors of pydicom and its decoders by `InputError`, with `subject`, such as a path, as prefix.

    Raises:
        InputError: instead of any of `DECODING_ERRORS`.
    """
    start = "" if subject is None else f"{subject}: "
    try:
        yield
    except InputError as error:
        raise InputError(f"{start}{error}") from None
    except (*DECODING_ERRORS, BytesLengthException):
        raise InputError(f"{start}{DAMAGED}") from None


def open_dicom(file: Path | BinaryIO, elements: Sequence[str] = (), *, pixels: bool = True) -> pydicom.FileDataset:
    """Read a DICOM file, and set its transfer syntax if the file has no meta information.

    Args:
        file: path, or bytes of an untrusted file, which must not be deflated.
        elements: keywords of the elements to read; all if empty.
        pixels: whether to read the pixel data.

    Raises:
        InputError: an untrusted file is deflated.
    """
    if isinstance(file, Path):
        tags = list(elements) or None
        dataset = pydicom.dcmread(file, force=True, specific_tags=tags, stop_before_pixels=not pixels)
    else:
        filereader.read_preamble(file, force=True)
        # Reads the meta information like `read_partial`, which would inflate a deflated file without limit.
        if filereader._read_file_meta_info(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise InputError("deflated DICOM; expected one whose data set is not compressed as a whole")
        file.seek(0)
        dataset = filereader.read_partial(file, force=True, specific_tags=[Tag(name) for name in elements])
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
    return dataset


def non_image_kind(dataset: pydicom.Dataset) -> str | None:
    """Return the DICOM term for an object that is not an image, such as Comprehensive SR or RT Dose; else None."""
    uid = element_text(dataset, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if uid.startswith(_SEGMENTATIONS + "4") or uid.startswith(_SEGMENTATIONS + "7"):
        return "Segmentation"
    name = UID(uid).name if uid else ""
    if name != uid and " Storage" in name:
        return None if any(word in name for word in _PICTURES) else "".join(name.rsplit(" Storage", 1))
    return _OTHER_MODALITIES.get(element_text(dataset, "Modality"))


def is_localizer(dataset: pydicom.Dataset) -> bool:
    """Check for a localizer (scout) image (PS3.3, C.8.2.1.1.1)."""
    return "LOCALIZER" in element_text(dataset, "ImageType").upper().split("\\")


def check_image(dataset: pydicom.Dataset) -> tuple[int, int]:
    """Check for an image of one or several frames, and return its (rows, columns).

    Raises:
        InputError: the file is not an image, or its size is missing or invalid.
    """
    if (kind := non_image_kind(dataset)) is not None:
        raise InputError(f"{kind} (DICOM); expected an image")
    if not any(name in dataset for name in _PIXELS):
        modality = element_text(dataset, "Modality")
        stated = f" (modality {modality})" if modality in _OTHER_MODALITIES else ""
        raise InputError(f"DICOM without pixels{stated}, or cut short; expected an image, whole")
    if (samples := element_integer(dataset, "SamplesPerPixel", 1)) > 4:
        raise InputError(f"DICOM with {samples} samples a pixel; expected 1 or 3")
    return element_integer(dataset, "Rows"), element_integer(dataset, "Columns")


def check_single_image(dataset: pydicom.Dataset) -> tuple[int, int]:
    """Check for an image of one frame, and return its (rows, columns). Raises like `check_image`."""
    size = check_image(dataset)
    if (frames := element_integer(dataset, "NumberOfFrames", 1)) > 1:
        raise InputError(f"DICOM with {frames} frames; expected a single image")
    return size


def decode_pixels(dataset: pydicom.Dataset, frame: int | None = None) -> np.ndarray:
    """Decode the stored values (H, W) or (H, W, 3) of an image, or of one of its frames.

    Raises:
        InputError: the pixels are damaged, or have a compression that no installed library decodes.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length and not syntax.is_encapsulated:
        raise InputError("compressed pixels without a TransferSyntaxUID that says how; expected one")
    if syntax in JPEGTransferSyntaxes:
        offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
        extended = offsets if all(offsets) else None
        count = element_integer(dataset, "NumberOfFrames", 1)
        check_scans(get_frame(dataset.PixelData, frame or 0, extended_offsets=extended, number_of_frames=count))
    try:
        return pixel_array(dataset, index=frame)
    except (*DECODING_ERRORS, BytesLengthException):
        if syntax.is_encapsulated and not _has_codec(syntax):
            name = syntax.name if syntax.name != syntax else "in an unknown way"
            raise InputError(
                f"pixels compressed: {name}; no installed library decodes that; pip install 'medmrcnn[dicom]'"
            ) from None
        raise InputError(f"{DAMAGED}: its pixels are not what its header says") from None


def _has_codec(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def element_text(dataset: pydicom.Dataset, keyword: str) -> str:
    """Return an element as text, several values joined by backslashes; empty if it is missing or invalid."""
    try:
        value = dataset.get(keyword)
    except (*DECODING_ERRORS, BytesLengthException):
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "\\".join(map(str, value)) if several else str(value or "").strip()


def element_numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """Return the numbers of an element; an empty list if it is missing or empty.

    Raises:
        InputError: a value is not a finite number; the message names the element, not the value.
    """
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        found = [float(each) for each in values]
    except (*DECODING_ERRORS, BytesLengthException):
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise InputError(f"{keyword} (DICOM): expected numbers")
    return found


def element_integer(dataset: pydicom.Dataset, keyword: str, default: int | None = None) -> int:
    """Return the single integer of an element, or `default` if it is missing.

    Raises:
        InputError: the value is not an integer, or missing without `default`; the message names the element only.
    """
    found = element_numbers(dataset, keyword)
    if not found and default is not None:
        return default
    if len(found) != 1 or found[0] != int(found[0]):
        raise InputError(f"{keyword} (DICOM): expected a whole number")
    return int(found[0])
