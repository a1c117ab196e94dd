"""DICOM files opened: with or without a preamble, told apart by their kind, their elements read as numbers.

What pydicom and its decoders say of a file may quote what stands in it, so none of their words leave this project:
errors are caught here and told anew, and warnings and log lines of these libraries are switched off.
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
from pydicom import filereader
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException
from pydicom.pixels import get_decoder, pixel_array
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGTransferSyntaxes,
)

from mrcnn.data.io.file_types import check_scans
from mrcnn.data.io.pictures import DECODING_ERRORS
from mrcnn.errors import InputError

for _library in ("pydicom", "highdicom"):
    logging.getLogger(_library).propagate = False  # of the loggers below it too
    logging.getLogger(_library).addFilter(lambda record: False)
    warnings.filterwarnings("ignore", module=rf"{_library}(\.|$)")
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE  # sound numbers are asked for below

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_SEGMENTATIONS = "1.2.840.10008.5.1.4.1.1.66."  # the start of their UIDs; pydicom does not know the newest
_PICTURES = ("Image", "US Volume")
"""One of these stands in the name of every storage class whose objects are pictures (PS3.4, B.5)."""
_OTHER_MODALITIES = {
    "SR": "structured report", "PR": "presentation state", "KO": "key object selection", "SEG": "segmentation",
    "RTDOSE": "RT dose", "RTSTRUCT": "RT structure set", "RTPLAN": "RT plan", "REG": "registration",
    "DOC": "document", "AU": "audio", "ECG": "electrocardiogram", "PLAN": "plan", "FID": "fiducials",
    "RWV": "real world value map", "SMR": "stereometric relationship", "OPV": "visual field measurements",
}  # fmt: skip
DAMAGED = "damaged DICOM, or cut short; expected an image, whole"


@contextmanager
def own_words(subject: object = None) -> Iterator[None]:
    """Tells errors of pydicom and the like in words of ours, with the `subject`, such as a path, before them.

    Raises:
        InputError: in place of any of `DECODING_ERRORS`.
    """
    start = "" if subject is None else f"{subject}: "
    try:
        yield
    except InputError as error:
        raise InputError(f"{start}{error}") from None
    except (*DECODING_ERRORS, BytesLengthException):
        raise InputError(f"{start}{DAMAGED}") from None


def open_dicom(file: Path | BinaryIO, elements: Sequence[str] = (), *, pixels: bool = True) -> pydicom.FileDataset:
    """The data set of a file, with a transfer syntax also where the file leaves its meta information out.

    Args:
        file: a path; or the bytes of a stranger's file, which must not be compressed as a whole.
        elements: keywords of those to read; all where it is empty.
        pixels: False stops before them.
    """
    if isinstance(file, Path):
        tags = list(elements) or None
        dataset = pydicom.dcmread(file, force=True, specific_tags=tags, stop_before_pixels=not pixels)
    else:
        filereader.read_preamble(file, force=True)
        # The part before the data set, read just as `read_partial` will: a deflated file would unpack all the rest.
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


def other_kind(dataset: pydicom.Dataset) -> str | None:
    """What a DICOM object is that is no picture, in the standard's words: Comprehensive SR, RT Dose; None of others."""
    uid = text(dataset, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    if uid.startswith(_SEGMENTATIONS + "4") or uid.startswith(_SEGMENTATIONS + "7"):
        return "Segmentation"
    name = UID(uid).name if uid else ""
    if name != uid and " Storage" in name:
        return None if any(word in name for word in _PICTURES) else "".join(name.rsplit(" Storage", 1))
    return _OTHER_MODALITIES.get(text(dataset, "Modality"))


def is_localizer(dataset: pydicom.Dataset) -> bool:
    """Whether an image only plans others (PS3.3, C.8.2.1.1.1), as the scout of a series of slices does."""
    return "LOCALIZER" in text(dataset, "ImageType").upper().split("\\")


def check_single_image(dataset: pydicom.Dataset) -> tuple[int, int]:
    """(rows, columns) of a data set that holds one picture.

    Raises:
        InputError: it holds something else, or says nothing sound of its size.
    """
    if (kind := other_kind(dataset)) is not None:
        raise InputError(f"{kind} (DICOM); expected an image")
    if not any(name in dataset for name in _PIXELS):
        modality = text(dataset, "Modality")
        stated = f" (modality {modality})" if modality in _OTHER_MODALITIES else ""
        raise InputError(f"DICOM without pixels{stated}, or cut short; expected an image, whole")
    if (frames := whole_number(dataset, "NumberOfFrames", 1)) > 1:
        raise InputError(f"DICOM with {frames} frames; expected a single image")
    if (samples := whole_number(dataset, "SamplesPerPixel", 1)) > 4:
        raise InputError(f"DICOM with {samples} samples a pixel; expected 1 or 3")
    return whole_number(dataset, "Rows"), whole_number(dataset, "Columns")


def decoded(dataset: pydicom.Dataset) -> np.ndarray:
    """The stored values (H, W) or (H, W, 3) of a data set that `check_single_image` takes.

    Raises:
        InputError: the pixels are damaged, or compressed in a way that no installed library knows.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length and not syntax.is_encapsulated:
        raise InputError("compressed pixels without a TransferSyntaxUID that says how; expected one")
    if syntax in JPEGTransferSyntaxes:
        offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
        given = offsets if all(offsets) else None
        check_scans(get_frame(dataset.PixelData, 0, extended_offsets=given, number_of_frames=1))
    try:
        return pixel_array(dataset)
    except (*DECODING_ERRORS, BytesLengthException):
        if syntax.is_encapsulated and not _has_codec(syntax):
            name = syntax.name if syntax.name != syntax else "in an unknown way"
            raise InputError(f"pixels compressed: {name}; no installed library decodes that") from None
        raise InputError(f"{DAMAGED}: its pixels are not what its header says") from None


def _has_codec(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """The value of an element as text, several with backslashes between them; empty where it is missing or unsound."""
    try:
        value = dataset.get(keyword)
    except (*DECODING_ERRORS, BytesLengthException):
        return ""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return "\\".join(map(str, value)) if several else str(value or "").strip()


def numbers(dataset: pydicom.Dataset, keyword: str) -> list[float]:
    """The values of an element, none where it is missing or empty.

    Raises:
        InputError: one of them is no finite number; names the element, and not the value.
    """
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return []
        several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        found = [float(each) for each in (value if several else [value])]
    except (*DECODING_ERRORS, BytesLengthException):
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise InputError(f"{keyword} (DICOM): expected numbers")
    return found


def whole_number(dataset: pydicom.Dataset, keyword: str, default: int | None = None) -> int:
    """The only value of an element.

    Raises:
        InputError: it is no whole number, or missing where there is no `default`; names the element, not the value.
    """
    found = numbers(dataset, keyword)
    if not found and default is not None:
        return default
    if len(found) != 1 or found[0] != int(found[0]):
        raise InputError(f"{keyword} (DICOM): expected a whole number")
    return int(found[0])
