"""Group DICOM files into series of slices, single images and other objects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from mrcnn.data.io.dicom import pixel_spacing
from mrcnn.data.io.dicom_file import (
    element_integer,
    element_numbers,
    element_text,
    is_localizer,
    non_image_kind,
    open_dicom,
    translate_errors,
)
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_TAGS = (
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing",
    "NumberOfFrames", "SOPClassUID", "ImageType", "Modality", "ImagerPixelSpacing",
    "EstimatedRadiographicMagnificationFactor",
)  # fmt: skip
_SAME_DIRECTION = 1e-3
_SAME_PLACE = 1e-3  # mm
LOCALIZER = "localizer"


@dataclass(frozen=True)
class DicomSeries:
    """Hold the slices of one stack in the order of their positions along its normal.

    Attributes:
        uid: SeriesInstanceUID.
        files: one per slice.
        shape: (slices, rows, columns).
        spacing_mm: (row, column) size of a pixel, or None.
    """

    uid: str
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: Spacing | None


@dataclass(frozen=True)
class SortedFiles:
    """Hold DICOM files by kind.

    Attributes:
        series: stacks of slices.
        alone: single images.
        others: (kind, file) of objects without images for prediction, such as reports, plans and localizers.
    """

    series: list[DicomSeries] = field(default_factory=list)
    alone: list[Path] = field(default_factory=list)
    others: list[tuple[str, Path]] = field(default_factory=list)


@dataclass(frozen=True)
class _Slice:
    path: Path
    position: np.ndarray
    direction: np.ndarray
    size: tuple[int, int]
    spacing_mm: Spacing | None


def group_series(files: Iterable[Path]) -> SortedFiles:
    """Sort DICOM files into series, single images and other objects.

    Two or more files with the same SeriesInstanceUID, size and orientation form a stack if each has a single frame and
    its own position. Other objects are recognized by their SOP class. Localizers are left out if there are other
    images. Unreadable files count as single images, so that reading them reports the error.
    """
    found = SortedFiles()
    groups: dict[tuple[str, bool], list[_Slice]] = defaultdict(list)
    localizers: set[Path] = set()
    for path in files:
        try:
            with translate_errors():
                header = open_dicom(path, _TAGS, pixels=False)
                kind, uid, is_scout = (
                    non_image_kind(header),
                    element_text(header, "SeriesInstanceUID"),
                    is_localizer(header),
                )
                slice_ = None if kind else _slice(path, header)
        except InputError:
            found.alone.append(path)
            continue
        if kind is not None:
            found.others.append((kind, path))
            continue
        if is_scout:
            localizers.add(path)
        if uid and slice_ is not None:
            groups[uid, is_scout].append(slice_)
        else:
            found.alone.append(path)
    for (uid, _), slices in groups.items():
        for stack in _stacks(slices):
            series = _stacked(uid, stack)
            if series is None:
                found.alone.extend(each.path for each in stack)
            else:
                found.series.append(series)
    _leave_out(localizers, found)
    found.alone.sort()
    return found


def _leave_out(localizers: set[Path], found: SortedFiles) -> None:
    """Move localizers to the other objects, unless there are no other images."""
    series = [each for each in found.series if not localizers.issuperset(each.files)]
    alone = [path for path in found.alone if path not in localizers]
    if series or alone:
        found.others.extend((LOCALIZER, path) for path in sorted(localizers))
        found.series[:], found.alone[:] = series, alone


def _slice(path: Path, header: pydicom.Dataset) -> _Slice | None:
    """Read the geometry of a file; None if it has no position, or several frames."""
    position, direction = (
        element_numbers(header, "ImagePositionPatient"),
        element_numbers(header, "ImageOrientationPatient"),
    )
    if len(position) != 3 or len(direction) != 6 or element_integer(header, "NumberOfFrames", 1) != 1:
        return None
    size = element_integer(header, "Rows"), element_integer(header, "Columns")
    return _Slice(path, np.array(position), np.array(direction), size, pixel_spacing(header))


def _stacks(slices: list[_Slice]) -> list[list[_Slice]]:
    """Group the slices of one series by size and orientation."""
    stacks: list[list[_Slice]] = []
    for each in slices:
        for stack in stacks:
            turned = np.abs(each.direction - stack[0].direction).max() > _SAME_DIRECTION
            if not turned and each.size == stack[0].size:
                stack.append(each)
                break
        else:
            stacks.append([each])
    return stacks


def _stacked(uid: str, slices: list[_Slice]) -> DicomSeries | None:
    normal = np.cross(slices[0].direction[:3], slices[0].direction[3:])
    ordered = sorted(slices, key=lambda each: float(normal @ each.position))
    places = np.array([normal @ each.position for each in ordered])
    if len(ordered) < 2 or np.diff(places).min() < _SAME_PLACE:
        return None
    first = ordered[0]
    return DicomSeries(uid, tuple(each.path for each in ordered), (len(ordered), *first.size), first.spacing_mm)
