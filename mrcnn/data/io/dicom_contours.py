"""Read the contours of a DICOM RT Structure Set (PS3.3, A.19) as regions on the voxels of a series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from skimage.draw import polygon2mask

from mrcnn.data.io.dicom_file import element_integer, element_numbers, element_text, open_dicom, translate_errors
from mrcnn.errors import InputError

_OFF_PLANE = 0.5  # slices by which a contour may lie beside one


def read_structure_set(
    path: Path, affine: np.ndarray, shape: tuple[int, int, int]
) -> tuple[list[str], np.ndarray, list[str]]:
    """Fill the closed planar contours of each region of interest (ROI).

    A pixel belongs to a region if its center lies within the contour. Contours of one region on one slice are combined
    by exclusive or, so that an inner contour is a hole.

    Args:
        path: DICOM file.
        affine: (4, 4) indices (column, row, slice) → DICOM coordinates in mm.
        shape: (slices, rows, columns).

    Returns:
        The name of each ROI with contours; (K, slices, rows, columns) bool; and what was passed over.

    Raises:
        InputError: the file is damaged, or a contour lies outside the series.
    """
    with translate_errors(path):
        dataset = open_dicom(path)
        if element_text(dataset, "Modality") != "RTSTRUCT":
            raise InputError("expected an RT Structure Set")
        names = {
            element_integer(roi, "ROINumber"): element_text(roi, "ROIName")
            for roi in dataset.get("StructureSetROISequence") or ()
        }
        to_index = np.linalg.inv(affine)
        found: list[str] = []
        regions: list[np.ndarray] = []
        passed: list[str] = []
        for roi in dataset.get("ROIContourSequence") or ():
            number = element_integer(roi, "ReferencedROINumber")
            name = names.get(number) or f"ROI {number}"
            contours: list[pydicom.Dataset] = list(roi.get("ContourSequence") or ())
            closed = [each for each in contours if element_text(each, "ContourGeometricType") == "CLOSED_PLANAR"]
            passed += [name] if len(closed) < len(contours) else []
            if closed:
                found.append(name)
                regions.append(_fill(closed, name, to_index, shape))
    return found, np.stack(regions) if regions else np.zeros((0, *shape), bool), passed


def _fill(contours: list[pydicom.Dataset], name: str, to_index: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    region = np.zeros(shape, bool)
    for contour in contours:
        points = np.array(element_numbers(contour, "ContourData"))
        if len(points) < 9 or len(points) % 3:
            raise InputError(
                f"ROI {name}: has a contour of {len(points)} numbers; expected x, y, z of 3 points or more"
            )
        indices = points.reshape(-1, 3) @ to_index[:3, :3].T + to_index[:3, 3]
        place = indices[:, 2].mean()
        index = round(float(place))
        if np.ptp(indices[:, 2]) > 2 * _OFF_PLANE or not 0 <= index < shape[0]:
            raise InputError(f"ROI {name}: has a contour outside the slices of the series; expected its own series")
        region[index] ^= polygon2mask(shape[1:], indices[:, 1::-1])
    return region


def referenced_uids(dataset: pydicom.Dataset) -> set[str]:
    """Return the UIDs of the series and of the images that a structure set or a segmentation references."""
    found = set()
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                found.add(element_text(series, "SeriesInstanceUID"))
    for series in dataset.get("ReferencedSeriesSequence") or ():
        found.add(element_text(series, "SeriesInstanceUID"))
        for image in series.get("ReferencedInstanceSequence") or ():
            found.add(element_text(image, "ReferencedSOPInstanceUID"))
    return found - {""}
