"""DICOM files put together to the series that they are slices of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from mrcnn.data.sample import Spacing

_TAGS = (
    "SeriesInstanceUID", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns", "PixelSpacing",
    "NumberOfFrames", "SOPClassUID",
)  # fmt: skip
_SAME_DIRECTION = 1e-3
_SAME_PLACE = 1e-3  # mm


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


def group_series(files: Iterable[Path]) -> tuple[list[DicomSeries], list[Path]]:
    """The series among DICOM files, and the files that are images on their own.

    Files of one SeriesInstanceUID are a series if there are two or more, each of a single frame that states its place,
    all of one size and direction, no two at one place. Files that cannot be read are images on their own, so that
    reading them tells what is wrong.
    """
    groups: dict[str, list[tuple[Path, pydicom.Dataset]]] = defaultdict(list)
    alone: list[Path] = []
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        except (InvalidDicomError, OSError, AttributeError, KeyError, ValueError):
            alone.append(path)
            continue
        uid = str(header.get("SeriesInstanceUID") or "")
        if uid and _is_slice(header):
            groups[uid].append((path, header))
        else:
            alone.append(path)
    series = []
    for uid, slices in groups.items():
        stacked = _stacked(uid, slices)
        if stacked is None:
            alone += [path for path, _ in slices]
        else:
            series.append(stacked)
    return series, sorted(alone)


def _is_slice(header: pydicom.Dataset) -> bool:
    position, direction = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    return bool(
        position
        and direction
        and len(position) == 3
        and len(direction) == 6
        and int(header.get("NumberOfFrames") or 1) == 1
    )


def _stacked(uid: str, slices: list[tuple[Path, pydicom.Dataset]]) -> DicomSeries | None:
    first = slices[0][1]
    direction = np.array(first.ImageOrientationPatient, np.float64)
    normal = np.cross(direction[:3], direction[3:])
    placed = []
    for path, header in slices:
        turned = np.abs(np.array(header.ImageOrientationPatient, np.float64) - direction).max() > _SAME_DIRECTION
        if turned or (header.Rows, header.Columns) != (first.Rows, first.Columns):
            return None
        placed.append((float(normal @ np.array(header.ImagePositionPatient, np.float64)), path))
    placed.sort()
    places = np.array([place for place, _ in placed])
    if len(placed) < 2 or np.diff(places).min() < _SAME_PLACE:
        return None
    given = first.get("PixelSpacing")
    spacing = (float(given[0]), float(given[1])) if given and len(given) == 2 and min(map(float, given)) > 0 else None
    shape = (len(placed), int(first.Rows), int(first.Columns))
    return DicomSeries(uid, tuple(path for _, path in placed), shape, spacing)
