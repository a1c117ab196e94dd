"""The output formats of predictions, and the kinds of inputs that support each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from mrcnn.errors import InputError

if TYPE_CHECKING:
    from experiments.prediction.inputs import Item

ALL_KINDS = frozenset({"image", "dicom", "series", "volume", "case", "video", "loop"})
SUPPORTED_KINDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "coco": ALL_KINDS,
        "findings": ALL_KINDS,
        "overlay": ALL_KINDS,
        "splash": ALL_KINDS,
        "mask": frozenset({"image", "dicom"}),
        "nifti": frozenset({"volume", "case", "series"}),
        "objects": frozenset({"volume", "case", "series"}),
        "dicom_seg": frozenset({"dicom", "series"}),
        "rtstruct": frozenset({"series"}),
        "yolo": frozenset({"image", "dicom"}),
        "labelme": frozenset({"image", "dicom"}),
        "label_studio": frozenset({"image", "dicom"}),
        "cvat": frozenset({"image", "dicom"}),
    }
)
"""Output format → kinds of `Item` that support it. The JSON of each input is always written."""
ANNOTATION_FORMATS = frozenset({"yolo", "labelme", "label_studio", "cvat"})
"""Forms of annotation tools: a folder with the images and their annotations, which a person corrects."""
SUMMARY_FORMATS = frozenset({"coco", "findings"})
"""Formats with one file for all inputs."""
DEFAULT_FORMATS = ("coco", "findings", "mask", "nifti", "overlay")
"""Without `objects`, which the JSON has too, `dicom_seg` and `rtstruct`, which reference their source, `splash`, which
repeats the overlay, and the forms of annotation tools. This list writes NIfTI for NIfTI alone, since slices of a series
may not fill a grid."""
_REQUIREMENTS = {
    "mask": "a single image (nifti or dicom_seg hold volumes)",
    "nifti": "a NIfTI volume or a DICOM series",
    "objects": "a NIfTI volume or a DICOM series",
    "dicom_seg": "DICOM with one frame in a file",
    "rtstruct": "a DICOM series",
} | dict.fromkeys(ANNOTATION_FORMATS, "a single image")


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the requested output formats in a fixed order. Raises `InputError` for an unknown format."""
    for name in formats:
        if name not in SUPPORTED_KINDS:
            raise InputError(f"--write {name}: expected some of {', '.join(SUPPORTED_KINDS)}")
    return tuple(name for name in SUPPORTED_KINDS if name in formats)


def item_formats(formats: Sequence[str], kind: str) -> frozenset[str]:
    """Return the formats of the files that an item of this kind gets for itself."""
    supported = {name for name in formats if kind in SUPPORTED_KINDS[name]}
    if kind == "series" and tuple(formats) == DEFAULT_FORMATS:
        supported.discard("nifti")
    return frozenset({"json"} | (supported - SUMMARY_FORMATS))


def unsupported_formats(formats: Sequence[str], items: Sequence[Item]) -> list[str]:
    """Return a line for each requested format that some of the items do not support.

    Raises:
        InputError: none of the items supports a format.
    """
    lines = []
    for name in formats:
        without = [item for item in items if item.kind not in SUPPORTED_KINDS[name]]
        if not without:
            continue
        kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(item.kind for item in without).items())
        needs = _REQUIREMENTS[name]
        if len(without) == len(items):
            raise InputError(f"--write {name}: {without[0].source}: needs {needs}; the inputs are {kinds}")
        lines.append(f"{name} needs {needs}: not written for {len(without)} of {len(items)} inputs, {kinds}")
    return lines
