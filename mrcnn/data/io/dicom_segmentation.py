"""What was found in DICOM images, as a DICOM Segmentation object (PS3.3, A.51) that points at them.

The standard has it bear the patient and study of its source. That is done when asked for; otherwise it has a pseudonym
in the patient's place, and nothing else of the patient or the study but the UIDs that it points with.
highdicom, which is imported where one is written, sees to the standard's many rules.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom

from mrcnn.data.io.dicom import pseudonym
from mrcnn.data.io.dicom_file import open_dicom, own_words
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
"""Elements that the standard wants to be there, and allows to be empty (type 2)."""
# SNOMED CT's names, as pydicom spells them, of what a class's name says: category, type. The first that fits counts.
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
    """Writes a binary segmentation with a segment for each class, which may overlap.

    Args:
        path: to be written.
        sources: DICOM files of a single image or of the slices of a series.
        regions: (K, S, H, W) bool: each of the K classes in each of the S sources.
        model_digest: of the network, of which the beginning stands as the serial number.
        version: of this software.
        keep_patient: copy what the first source says of patient and study: names, numbers, dates.

    Raises:
        InputError: the sources lack what a segmentation needs, or differ in size from the regions.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    images = []
    for source in sources:
        with own_words(source):
            image = open_dicom(source)
            images.append(image if keep_patient else _without_patient(image))
    if regions.shape[1:] != (len(images), int(images[0].Rows), int(images[0].Columns)):
        raise InputError(f"{sources[0]}: is of another size than what was found in it")
    with own_words(sources[0]):
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
    except (AttributeError, KeyError, ValueError, TypeError):  # whose words may quote what stands in the file
        raise InputError(
            f"{sources[0]}: cannot be the source of a DICOM segmentation; expected sound modules of patient, study, "
            "series and frame of reference"
        ) from None
    if not keep_patient:
        segmentation.PatientIdentityRemoved = "YES"
        segmentation.DeidentificationMethod = f"{MAKER}: pseudonym; nothing else of patient and study"
    segmentation.save_as(path)


def _without_patient(image: pydicom.Dataset) -> pydicom.Dataset:
    """What a segmentation needs of its source: which it is, and where its pixels lie."""
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
    """Gives slices without a thickness, which many files leave out, the distance between them.

    The standard's pixel measures need one. Those of a single image without thickness and place, as ultrasound is, are
    left out: what shows the segmentation takes them from its source.
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
