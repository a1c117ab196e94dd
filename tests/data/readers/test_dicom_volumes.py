"""DICOM series, loops and enhanced CT with segmentations and structure sets, written by highdicom and pydicom."""

import highdicom as hd
import numpy as np
import pydicom
import pytest
import tifffile
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from mrcnn.data import read_dataset
from mrcnn.data.readers import find_reader
from mrcnn.errors import InputError

SLICES, ROWS, COLUMNS = 5, 12, 16
STEP, SPACING = 2.5, (0.8, 0.5)
ORIGIN = np.array([-30.0, 20.0, 100.0])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))


def units(seed=0):
    """Hounsfield units (slices, rows, columns)."""
    return np.random.default_rng(seed).integers(-900, 900, (SLICES, ROWS, COLUMNS))


def regions():
    """A lesion of 4×5 pixels in slices 1 and 2, and a node of 3×3 in slice 2, which touches it."""
    found = np.zeros((2, SLICES, ROWS, COLUMNS), bool)
    found[0, 1:3, 2:6, 3:8] = True
    found[1, 2, 4:7, 7:10] = True
    return found


def dataset_of(storage, modality, **fields):
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = storage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    made.PatientID, made.PatientName, made.PatientBirthDate, made.PatientSex = "anna", "", "", ""
    made.StudyDate = made.StudyTime = made.StudyID = made.AccessionNumber = made.ReferringPhysicianName = ""
    made.Modality, made.SeriesNumber, made.InstanceNumber = modality, 1, 1
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def with_pixels(made, stored):
    made.Rows, made.Columns = stored.shape[-3:-1] if made.get("SamplesPerPixel") == 3 else stored.shape[-2:]
    bits = stored.dtype.itemsize * 8
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    made.SamplesPerPixel = made.get("SamplesPerPixel") or 1
    made.PhotometricInterpretation = "RGB" if made.SamplesPerPixel == 3 else "MONOCHROME2"
    made.PixelData = stored.tobytes()
    return made


def write_series(folder):
    """A CT series whose files are named against their order. Returns the data sets from the lowest slice up."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index, plane in enumerate(units()):
        each = dataset_of(
            CTImageStorage, "CT", ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + STEP * index],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=list(SPACING), SliceThickness=STEP,
            RescaleSlope=1, RescaleIntercept=-1024, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        )  # fmt: skip
        with_pixels(each, (plane + 1024).astype(np.uint16)).save_as(folder / f"{9 - index}.dcm")
        made.append(each)
    return made


def write_seg(path, sources, masks, names=("lesion", "node")):
    """A segmentation as highdicom writes it. `masks` are (K, S, H, W)."""
    segments = [
        SegmentDescription(
            segment_number=number, segment_label=name, segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver, algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    Segmentation(
        source_images=sources, pixel_array=np.moveaxis(masks, 0, -1).astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY, segment_descriptions=segments,
        series_instance_uid=hd.UID(), series_number=2, sop_instance_uid=hd.UID(), instance_number=1,
        manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="1",
    ).save_as(path)  # fmt: skip


def write_structures(path, contours, series="1.2.3.4"):
    """A structure set. `contours` maps a name to lists of (slice, [(row, column), …]) in pixels."""
    made = dataset_of(RTStructureSetStorage, "RTSTRUCT", SeriesInstanceUID=generate_uid())
    referenced, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    referenced.SeriesInstanceUID = series
    study.RTReferencedSeriesSequence = [referenced]
    frame.RTReferencedStudySequence = [study]
    made.ReferencedFrameOfReferenceSequence = [frame]
    made.StructureSetROISequence, made.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(contours.items(), 1):
        roi, item = pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber = item.ReferencedROINumber = number
        roi.ROIName = name
        item.ContourSequence = []
        for index, points in outlines:
            contour = pydicom.Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.ContourData = [
                round(float(value), 4) for row, column in points
                for value in ORIGIN + np.array([SPACING[1] * column, SPACING[0] * row, STEP * index])
            ]  # fmt: skip
            contour.NumberOfContourPoints = len(points)
            item.ContourSequence.append(contour)
        made.StructureSetROISequence.append(roi)
        made.ROIContourSequence.append(item)
    made.save_as(path, enforce_file_format=True)


def box(top, left, bottom, right):
    """The outline of the pixels from top, left to bottom - 1, right - 1, around their outer edges."""
    top, left, bottom, right = top - 0.5, left - 0.5, bottom - 0.5, right - 0.5
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


def union(dataset, index, class_id):
    record = dataset.records[index]
    return dataset[index].masks[record.class_ids == class_id].any(axis=0)


def assert_read(dataset):
    assert dataset.class_names == ("lesion", "node")
    assert [record.place.index for record in dataset.records] == list(range(SLICES))
    for index in range(SLICES):
        for class_id in (1, 2):
            np.testing.assert_array_equal(union(dataset, index, class_id), regions()[class_id - 1, index])


def test_a_series_with_a_segmentation(tmp_path):
    sources = write_series(tmp_path / "set" / "p1" / "CT")
    write_seg(tmp_path / "set" / "p1" / "seg.dcm", sources, regions())
    assert find_reader(tmp_path / "set") == "volumes"
    dataset = read_dataset(tmp_path / "set", min_area=1, window=(40, 400))
    assert_read(dataset)
    record = dataset.records[2]
    assert record.spacing_mm == SPACING and record.place.step_mm == pytest.approx(STEP)
    assert record.pseudonymous and len(record.patient_id) == 16 and "anna" not in record.patient_id
    shown = np.rint(((units()[2] + 160) / 400 * 255).clip(0, 255))
    np.testing.assert_array_equal(dataset[2].image[..., 0], shown)


def test_a_series_with_a_structure_set(tmp_path):
    """The same regions as contours; the lesion has a hole, by a second contour, in slice 1."""
    write_series(tmp_path / "set")
    outlines = {"Lesion": [(1, box(2, 3, 6, 8)), (1, box(3, 4, 5, 6)), (2, box(2, 3, 6, 8))],
                "node": [(2, box(4, 7, 7, 10))]}  # fmt: skip
    write_structures(tmp_path / "set" / "rs.dcm", outlines)
    dataset = read_dataset(tmp_path / "set", min_area=1)
    assert dataset.class_names == ("Lesion", "node")
    expected = regions()
    expected[0, 1, 3:5, 4:6] = False
    for index in range(SLICES):
        for class_id in (1, 2):
            np.testing.assert_array_equal(union(dataset, index, class_id), expected[class_id - 1, index])
    chosen = read_dataset(tmp_path / "set", min_area=1, classes={"target": ("lesion", "NODE")})
    assert chosen.class_names == ("target",)
    np.testing.assert_array_equal(union(chosen, 2, 1), expected.any(0)[2])
    told = read_dataset(tmp_path / "set", min_area=1, classes={"node": "node"}).warnings
    assert any("segments are in no class and count as background: Lesion" in warning for warning in told)


def enhanced_ct():
    made = dataset_of(EnhancedCTImageStorage, "CT", NumberOfFrames=SLICES)
    shared, per_frame = pydicom.Dataset(), []
    orientation, measures, rescale = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), STEP
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    for index in range(SLICES):
        position, item = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * index]
        item.PlanePositionSequence = [position]
        per_frame.append(item)
    made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence = [shared], per_frame
    return with_pixels(made, (units() + 1024).astype(np.uint16))


def loop():
    """An ultrasound loop in color, whose frames have no position, and its pixels."""
    frames = np.random.default_rng(1).integers(0, 256, (SLICES, ROWS, COLUMNS, 3)).astype(np.uint8)
    made = dataset_of(UltrasoundMultiFrameImageStorage, "US", NumberOfFrames=SLICES, SamplesPerPixel=3,
                      PlanarConfiguration=0, PixelSpacing=list(SPACING), FrameTime=40)  # fmt: skip
    return with_pixels(made, frames), frames


def test_an_ultrasound_loop_with_a_segmentation(tmp_path):
    """Frames without positions are images: colors as stored, the size of a pixel from the file."""
    made, frames = loop()
    (tmp_path / "set").mkdir()
    # highdicom references frames of images with positions alone; the reader needs only their number and the UID.
    source = enhanced_ct()
    source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    write_seg(tmp_path / "set" / "seg.dcm", [source], regions())
    made.save_as(tmp_path / "set" / "loop.dcm", enforce_file_format=True)
    dataset = read_dataset(tmp_path / "set", min_area=1)
    assert_read(dataset)
    np.testing.assert_array_equal(dataset[3].image, frames[3])
    assert dataset.records[0].spacing_mm == SPACING
    with pytest.raises(InputError, match="is no volume but images; expected no window"):
        read_dataset(tmp_path / "set", window=(40, 400))


@pytest.mark.parametrize("name", ["loop_mask.npy", "loop_seg.tif"])
def test_an_ultrasound_loop_with_a_label_map_of_its_frames(tmp_path, name):
    made, frames = loop()
    (tmp_path / "set").mkdir()
    made.save_as(tmp_path / "set" / "loop.dcm", enforce_file_format=True)
    labels = np.where(regions()[1], 2, regions()[0]).astype(np.uint8)
    path = tmp_path / "set" / name
    (np.save if path.suffix == ".npy" else tifffile.imwrite)(path, labels)
    assert find_reader(tmp_path / "set") == "volumes"
    dataset = read_dataset(tmp_path / "set", min_area=1, classes={"lesion": 1, "node": 2})
    for index in range(SLICES):
        for class_id in (1, 2):
            np.testing.assert_array_equal(union(dataset, index, class_id), labels[index] == class_id)
    np.testing.assert_array_equal(dataset[4].image, frames[4])
    (np.save if path.suffix == ".npy" else tifffile.imwrite)(path, labels[:3])
    with pytest.raises(InputError, match=rf"{name}: h.*expected"):
        read_dataset(tmp_path / "set")


def test_an_enhanced_ct_is_a_volume(tmp_path):
    made = enhanced_ct()
    (tmp_path / "set").mkdir()
    made.save_as(tmp_path / "set" / "ct.dcm", enforce_file_format=True)
    write_seg(tmp_path / "set" / "seg.dcm", [made], regions())
    dataset = read_dataset(tmp_path / "set", min_area=1, window=(40, 400))
    assert_read(dataset)
    shown = np.rint(((units()[2] + 160) / 400 * 255).clip(0, 255))
    np.testing.assert_array_equal(dataset[2].image[..., 0], shown)


def test_what_is_refused(tmp_path):
    folder = tmp_path / "set"
    sources = write_series(folder)
    write_structures(folder / "rs.dcm", {"x": [(1, box(2, 3, 6, 8))]}, series="9.9")
    with pytest.raises(InputError, match=r"rs\.dcm: references 0 series of the data set"):
        read_dataset(folder)
    write_structures(folder / "rs.dcm", {"x": [(40, box(2, 3, 6, 8))]})
    with pytest.raises(InputError, match=r"rs\.dcm: ROI x: has a contour outside the slices"):
        read_dataset(folder)
    write_structures(folder / "rs.dcm", {"x": [(1, box(2, 3, 6, 8)[:2])]})
    with pytest.raises(InputError, match=r"ROI x: has a contour of 6 numbers; expected x, y, z of 3 points"):
        read_dataset(folder)
    write_structures(folder / "rs.dcm", {"x": [(1, box(2, 3, 6, 8))]})
    (folder / "6.dcm").unlink()
    with pytest.raises(InputError, match=r"9\.dcm: the slices of its series are 2\.5 to 5 mm apart; expected a whole"):
        read_dataset(folder)
    (folder / "rs.dcm").write_bytes((folder / "rs.dcm").read_bytes()[:700])
    with pytest.raises(InputError):
        read_dataset(folder, "volumes", layout="dicom")
    assert sources
