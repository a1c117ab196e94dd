"""Read the contours of a DICOM RT Structure Set (PS3.3, A.19) as regions on a series, and write predictions as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from skimage.draw import polygon2mask

from mrcnn.data.io.dicom_file import element_integer, element_numbers, element_text, open_dicom, translate_errors
from mrcnn.data.io.dicom_segmentation import DESCRIPTION, MAKER, MODEL, open_sources
from mrcnn.data.writers.traces import trace_contours
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop

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


_PATIENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
)  # fmt: skip
_COLORS = ((230, 159, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178))
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # SOP class that references to a study name


def write_structure_set(
    path: Path,
    sources: Sequence[Path],
    regions: np.ndarray,
    class_names: Sequence[str],
    *,
    version: str,
    keep_patient: bool = False,
) -> None:
    """Write a structure set with one ROI per class and a closed contour for each piece of a slice.

    Contours run between the centers of pixels, so that reading the file gives exactly the regions. Holes are joined to
    the outer contour by a line there and back (keyhole). Arguments are those of `write_dicom_seg`.

    Raises:
        InputError: a source lacks its geometry or identifiers, or its size differs from the regions.
    """
    images = open_sources(sources, regions, keep_patient, ("FrameOfReferenceUID", "SOPInstanceUID", "StudyInstanceUID"))
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for name in _PATIENT:
        setattr(made, name, images[0].get(name, ""))
    if not keep_patient:
        made.PatientIdentityRemoved = "YES"
        made.DeidentificationMethod = f"{MAKER}: pseudonym; nothing else of patient and study"
    now = datetime.now(UTC)
    made.Modality, made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = "RTSTRUCT", generate_uid(), 101, 1
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = MAKER, MODEL, version
    made.SeriesDescription, made.StructureSetLabel = f"{MAKER}: {DESCRIPTION.lower()}", DESCRIPTION[:16]
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.StructureSetDescription, made.ApprovalStatus = DESCRIPTION, "UNAPPROVED"
    made.OperatorsName = ""
    made.ReferencedFrameOfReferenceSequence = [_reference(images)]
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for number, (name, region) in enumerate(zip(class_names, regions, strict=True), start=1):
        roi, contours, observation = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber = contours.ReferencedROINumber = number
        observation.ObservationNumber = observation.ReferencedROINumber = number
        roi.ReferencedFrameOfReferenceUID = images[0].FrameOfReferenceUID
        roi.ROIName, roi.ROIGenerationAlgorithm = name[:64], "AUTOMATIC"
        contours.ROIDisplayColor = list(_COLORS[(number - 1) % len(_COLORS)])
        found = [each for image, slice_ in zip(images, region, strict=True) for each in _contours(image, slice_)]
        if found:
            contours.ContourSequence = found
        observation.RTROIInterpretedType = observation.ROIInterpreter = ""
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(contours)
        made.RTROIObservationsSequence.append(observation)
    made.save_as(path, enforce_file_format=True)


def _image_reference(image: pydicom.Dataset) -> pydicom.Dataset:
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return reference


def _reference(images: Sequence[pydicom.Dataset]) -> pydicom.Dataset:
    """Return the frame of reference with the study, the series and its images."""
    frame, study, series = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_image_reference(image) for image in images]
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _STUDY_MANAGEMENT, images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = images[0].FrameOfReferenceUID, [study]
    return frame


def _contours(image: pydicom.Dataset, region: np.ndarray) -> Iterator[pydicom.Dataset]:
    """Yield the contours of a region (H, W) in the coordinates of the patient (PS3.3, C.7.6.2.1.1)."""
    if not region.any():
        return
    position, direction = np.array(image.ImagePositionPatient, float), np.array(image.ImageOrientationPatient, float)
    row_mm, column_mm = (float(side) for side in image.PixelSpacing)
    for contour in trace_contours(Crop(0, 0, region).tight()):
        x, y = (contour - 0.5).T  # ImagePositionPatient is the center of the first pixel
        points = position + np.outer(x * column_mm, direction[:3]) + np.outer(y * row_mm, direction[3:])
        entry = pydicom.Dataset()
        entry.ContourImageSequence = [_image_reference(image)]
        entry.ContourGeometricType, entry.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
        entry.ContourData = [f"{value:.10g}" for value in points.ravel()]
        yield entry
