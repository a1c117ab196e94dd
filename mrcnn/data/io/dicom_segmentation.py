"""Read DICOM Segmentation objects (PS3.3, A.51), and write predictions as one that references its source images.

The standard requires patient and study of the source. By default the object has a pseudonym instead of the patient,
and nothing else of patient and study except the referenced UIDs; `keep_patient` copies them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from mrcnn.data.io.dicom import pseudonym
from mrcnn.data.io.dicom_file import open_dicom, translate_errors
from mrcnn.errors import InputError

DESCRIPTION = "Research use only"
MAKER = "medmrcnn"
MODEL = "Mask R-CNN"
_NEEDED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "Rows",
    "Columns", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "ImagePositionPatient",
    "ImageOrientationPatient", "ImageOrientationSlide", "NumberOfFrames",
)  # fmt: skip
_BLANK = (
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""Elements that are required but may be empty (type 2)."""
# SNOMED CT category and type, in the spelling of pydicom, by pattern of the class name; the first match counts.
_MEANINGS = (
    (re.compile(r"lung"), "AnatomicalStructure", "Lung"),
    (re.compile(r"tumou?r|glioma|meningioma"), "MorphologicallyAbnormalStructure", "Neoplasm"),
    (re.compile(r"nodul|^(iso|hypo)$"), "MorphologicallyAbnormalStructure", "Nodule"),
    (re.compile(r""), "MorphologicallyAbnormalStructure", "Lesion"),
)


def write_dicom_seg(
    path: Path,
    sources: Sequence[Path],
    regions: np.ndarray,
    class_names: Sequence[str],
    *,
    model_digest: str,
    version: str,
    keep_patient: bool = False,
) -> None:
    """Write a binary segmentation with one segment per class; segments may overlap.

    Args:
        path: output file.
        sources: DICOM files of a single image or of the slices of a series.
        regions: (K, S, H, W) bool, region of each of K classes in each of S sources.
        class_names: names of the K classes.
        model_digest: digest of the model; its first 16 characters are the serial number.
        version: version of this software.
        keep_patient: whether to copy names, numbers and dates of patient and study from the first source.

    Raises:
        InputError: the sources lack required elements, or their size differs from the regions.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    images = open_sources(sources, regions, keep_patient)
    with translate_errors(sources[0]):
        _complete_thickness(images)
    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"{MAKER} {MODEL}", family=codes.DCM.ArtificialIntelligence, version=version
    )
    segments = []
    for number, name in enumerate(class_names, start=1):
        category, kind = _meaning(name)
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=getattr(codes.SCT, category),
                segmented_property_type=getattr(codes.SCT, kind),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
            )
        )
    try:
        segmentation = hd.seg.Segmentation(
            source_images=images,
            pixel_array=np.ascontiguousarray(np.moveaxis(regions, 0, -1), dtype=np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=segments,
            series_instance_uid=hd.UID(),
            series_number=100,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name=MODEL,
            software_versions=version,
            device_serial_number=model_digest[:16],
            content_description=DESCRIPTION,
            content_label="SEGMENTATION",
            series_description=f"{MAKER}: {DESCRIPTION.lower()}",
        )
    except (AttributeError, KeyError, ValueError, TypeError):  # their messages may quote patient data
        raise InputError(
            f"{sources[0]}: cannot be the source of a DICOM segmentation; expected sound modules of patient, study, "
            "series and frame of reference"
        ) from None
    if not keep_patient:
        segmentation.PatientIdentityRemoved = "YES"
        segmentation.DeidentificationMethod = f"{MAKER}: pseudonym; nothing else of patient and study"
    segmentation.save_as(path)


def read_dicom_seg(path: Path, sources: Sequence[str], frames: int = 1) -> tuple[list[str], np.ndarray]:
    """Read the segments of a binary or fractional segmentation on its source images.

    Args:
        path: DICOM file.
        sources: SOPInstanceUID of each image of the source series, or of its one file of several frames.
        frames: frames of each source.

    Returns:
        The label of each segment, and (K, S, H, W) bool, False in images that the segmentation does not reference.

    Raises:
        InputError: the file is damaged, or references none of the sources.
    """
    import highdicom as hd

    with translate_errors(path):
        open_dicom(path, ("SOPClassUID",), pixels=False)
        try:
            segmentation = hd.seg.segread(path)
            labels = [segmentation.get_segment_description(number).segment_label
                      for number in segmentation.segment_numbers]  # fmt: skip
            options: dict[str, Any] = {"assert_missing_frames_are_empty": True, "ignore_spatial_locations": True,
                       "rescale_fractional": True}  # fmt: skip
            if frames > 1:
                pixels = segmentation.get_pixels_by_source_frame(sources[0], range(1, frames + 1), **options)
            else:
                pixels = segmentation.get_pixels_by_source_instance(sources, **options)
        except (AttributeError, KeyError, IndexError, ValueError, TypeError, RuntimeError, NotImplementedError):
            raise InputError(
                "cannot be read as a segmentation of its series; expected binary or fractional segments that reference "
                "the images of one series by their SOPInstanceUID"
            ) from None
    return labels, np.moveaxis(np.asarray(pixels) >= 0.5, -1, 0)


def open_sources(
    sources: Sequence[Path], regions: np.ndarray, keep_patient: bool, referenced: Sequence[str] = ()
) -> list[pydicom.Dataset]:
    """Open the sources of `regions` (K, S, H, W), without their patient unless `keep_patient`.

    Raises:
        InputError: a source has no element that is `referenced`, or its size differs from the regions.
    """
    images = []
    for source in sources:
        with translate_errors(source):
            image = open_dicom(source)
            if missing := [name for name in referenced if name not in image]:
                raise InputError(
                    f"has no {missing[0]}, which a structure set references; expected a sound image of a series"
                )
            images.append(image if keep_patient else _without_patient(image))
    if regions.shape[1:] != (len(images), int(images[0].Rows), int(images[0].Columns)):
        raise InputError(f"{sources[0]}: is of another size than what was found in it")
    return images


def _without_patient(image: pydicom.Dataset) -> pydicom.Dataset:
    """Copy the elements of a source that an object derived from it needs: its identifiers and geometry."""
    known = pydicom.Dataset()
    for name in _NEEDED:
        if name in image:
            known.add(image[name])
    for name in _BLANK:
        setattr(known, name, "")
    known.PatientID = pseudonym(image) or ""
    known.file_meta = image.file_meta
    return known


def _complete_thickness(images: Sequence[pydicom.Dataset]) -> None:
    """Set the missing thickness of slices, which the standard requires, to the distance between slices.

    For a single image without thickness and position, such as ultrasound, remove the pixel spacing instead: viewers
    take it from the source image.
    """
    if all(image.get("SliceThickness") for image in images):
        return
    if len(images) > 1:
        corners = np.array([image.ImagePositionPatient for image in images], np.float64)
        distance = float(np.median(np.linalg.norm(np.diff(corners, axis=0), axis=1)))
        for image in images:
            image.SliceThickness = f"{distance:.6g}"
        return
    if "FrameOfReferenceUID" in images[0]:
        raise InputError(
            "states its place and no SliceThickness, which its segmentation needs; expected its whole series"
        )
    if "PixelSpacing" in images[0]:
        del images[0].PixelSpacing


def _meaning(name: str) -> tuple[str, str]:
    return next((category, kind) for pattern, category, kind in _MEANINGS if pattern.search(name.lower()))
