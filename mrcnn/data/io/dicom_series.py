"""DICOM files put together to the series that they are slices of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom

from mrcnn.data.io.dicom import spacing_of
from mrcnn.data.io.dicom_file import is_localizer, numbers, open_dicom, other_kind, own_words, text, whole_number
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
    """Slices on one stack, in the order of their places along its normal.

    Attributes:
        uid: SeriesInstanceUID.
        files: one a slice.
        shape: (slices, rows, columns).
        spacing_mm: (row, column) of a pixel, or None.
    """

    uid: str
    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: Spacing | None


@dataclass(frozen=True)
class SortedFiles:
    """DICOM files by what they are.

    Attributes:
        series: stacks of slices.
        alone: images on their own.
        others: (kind, file) of what is no picture to look for anything in, such as reports, plans and localizers.
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
    """Sorts DICOM files into series, images on their own, and what is no such picture.

    Files of one SeriesInstanceUID, size and direction are a stack if there are two or more, each of a single frame that
    states its place, no two at one place. Objects of other kinds are told by their SOP class. Localizers are left out
    where there are other images. Files that cannot be read are images on their own, so that reading them tells what is
    wrong.
    """
    found = SortedFiles()
    groups: dict[tuple[str, bool], list[_Slice]] = defaultdict(list)
    localizers: set[Path] = set()
    for path in files:
        try:
            with own_words():
                header = open_dicom(path, _TAGS, pixels=False)
                kind, uid, is_scout = other_kind(header), text(header, "SeriesInstanceUID"), is_localizer(header)
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
    """Moves localizers to what is no picture, unless there is nothing else."""
    series = [each for each in found.series if not localizers.issuperset(each.files)]
    alone = [path for path in found.alone if path not in localizers]
    if series or alone:
        found.others.extend((LOCALIZER, path) for path in sorted(localizers))
        found.series[:], found.alone[:] = series, alone


def _slice(path: Path, header: pydicom.Dataset) -> _Slice | None:
    """What a stack needs to know of a file; None of one without a place, or of several frames."""
    position, direction = numbers(header, "ImagePositionPatient"), numbers(header, "ImageOrientationPatient")
    if len(position) != 3 or len(direction) != 6 or whole_number(header, "NumberOfFrames", 1) != 1:
        return None
    size = whole_number(header, "Rows"), whole_number(header, "Columns")
    return _Slice(path, np.array(position), np.array(direction), size, spacing_of(header))


def _stacks(slices: list[_Slice]) -> list[list[_Slice]]:
    """Slices of one series apart by size and direction."""
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
