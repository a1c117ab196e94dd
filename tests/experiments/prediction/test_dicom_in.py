"""DICOM images and series, and their segmentations read back by highdicom and pydicom."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from experiments.prediction.inputs import find_inputs
from experiments.prediction.output_formats import DEFAULT_FORMATS
from mrcnn.data.io.dicom import pseudonym
from mrcnn.data.io.dicom_contours import read_structure_set
from mrcnn.errors import InputError

NAME, IDENTITY = "Musterfrau^Erika", "MRN-4711"


def write(path, pixels, *, storage=CTImageStorage, modality="CT", series=None, place=None, study="1.2.3", **fields):
    """A file as a scanner writes it, with all that its patient module needs."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = storage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series or generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = (
        NAME,
        IDENTITY,
        "19700101",
        "F",
    )
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = (
        dataset.ReferringPhysicianName
    ) = ""
    dataset.Manufacturer, dataset.SeriesNumber, dataset.InstanceNumber, dataset.Modality = "M", 1, 1, modality
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = pixels.tobytes()
    if place is not None:
        dataset.FrameOfReferenceUID = "1.2.3.4"
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, place], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.25], 2
    for name, value in fields.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def slices():
    """(6, 40, 56) uint8, of which slices 2 and 3 show a box and slice 3 a bright one in it."""
    stack = np.zeros((6, 40, 56), np.uint8)
    stack[2:4, 8:20, 10:26] = 150
    stack[3, 10:12, 12:16] = 220
    return stack


@pytest.fixture
def series(tmp_path):
    """A folder with a series whose files are in no order, without suffixes."""
    for number, place in enumerate((3, 0, 5, 1, 4, 2)):
        write(tmp_path / "scan" / f"IM{number}", slices()[place], series="1.2.3.5", place=2.0 * place)
    return tmp_path / "scan"


def test_slices_of_a_series_are_put_in_order_and_segmented(predicted, series):
    hd = pytest.importorskip("highdicom")
    report, record = predicted(series, forms=("dicom_seg", "overlay"))
    assert report.problems == []
    frames = json.loads((record.folder / "json/scan.json").read_text())["frames"]
    assert [len(frame["instances"]) for frame in frames] == [0, 0, 1, 2, 0, 0]

    path = record.folder / "dicom_seg/scan.dcm"
    found = hd.seg.segread(path)
    assert [found.get_segment_description(n).segment_label for n in (1, 2)] == ["dim", "bright"]
    ordered = sorted(
        (pydicom.dcmread(file) for file in series.iterdir()), key=lambda each: each.ImagePositionPatient[2]
    )
    uids = [each.SOPInstanceUID for each in ordered]
    pixels = found.get_pixels_by_source_instance(
        uids, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(pixels[..., 0], slices() == 150)
    np.testing.assert_array_equal(pixels[..., 1], slices() == 220)
    assert (found.PatientID, found.StudyInstanceUID) == (pseudonym(ordered[0]), "1.2.3")
    assert found.ContentDescription == "Research use only"
    assert "research use only" in found.SeriesDescription
    assert found.FrameOfReferenceUID == "1.2.3.4"


def test_an_ultrasound_image_without_a_place_in_space_is_segmented(predicted, tmp_path):
    hd = pytest.importorskip("highdicom")
    image = slices()[3]
    path = write(tmp_path / "us.dcm", image, storage=UltrasoundImageStorage, modality="US", PixelSpacing=[0.5, 0.25])
    report, record = predicted(path, forms=("mask", "dicom_seg"))
    assert report.problems == []
    found = hd.seg.segread(record.folder / "dicom_seg/us.dcm")
    uid = pydicom.dcmread(path).SOPInstanceUID
    pixels = found.get_pixels_by_source_instance([uid], ignore_spatial_locations=True)
    np.testing.assert_array_equal(pixels[0, ..., 0], image == 150)
    np.testing.assert_array_equal(pixels[0, ..., 1], image == 220)


def test_the_frames_of_a_loop_are_predicted_one_by_one(predicted, tmp_path):
    frames = slices()
    path = write(tmp_path / "loop.dcm", frames[0], storage=UltrasoundMultiFrameImageStorage, modality="US",
                 NumberOfFrames=len(frames), PixelData=frames.tobytes())  # fmt: skip
    report, record = predicted(path, forms=("overlay",))
    assert report.problems == []
    found = json.loads((record.folder / "json/loop.json").read_text())["frames"]
    assert [(frame["frame"], len(frame["instances"])) for frame in found] == [
        (0, 0), (1, 0), (2, 1), (3, 2), (4, 0), (5, 0)]  # fmt: skip
    assert (record.folder / "overlay/loop.png").exists()


@pytest.mark.parametrize("thickness", [None, ""])
def test_files_that_leave_the_thickness_out(predicted, tmp_path, thickness):
    hd = pytest.importorskip("highdicom")
    stack = slices()
    for place in range(2, 4):
        path = write(tmp_path / "scan" / f"{place}.dcm", stack[place], series="1.2.3.6", place=2.5 * place)
        dataset = pydicom.dcmread(path)
        if thickness is None:
            del dataset.SliceThickness
        else:
            dataset.SliceThickness = thickness
        dataset.save_as(path)
    report, record = predicted(tmp_path / "scan", tmp_path / "scan" / "3.dcm", forms=("dicom_seg",))
    (problem,) = report.problems
    assert problem.startswith(f"{tmp_path}/scan/3.dcm: states its place and no SliceThickness")
    whole = hd.seg.segread(record.folder / "dicom_seg/scan.dcm")
    measures = whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert (measures.SliceThickness, list(measures.PixelSpacing)) == (2.5, [0.5, 0.25])
    assert [path.name for path in record.folder.rglob("*3*")] == []


def test_nothing_found_is_a_segmentation_too(predicted, tmp_path):
    hd = pytest.importorskip("highdicom")
    path = write(tmp_path / "a.dcm", np.zeros((20, 30), np.uint8), place=0.0)
    report, record = predicted(path, forms=("dicom_seg",))
    assert report.problems == []
    found = hd.seg.segread(record.folder / "dicom_seg/a.dcm")
    assert not found.pixel_array.any()


def outputs_with(record, *words):
    """Endings of the outputs that hold one of the words."""
    files = [path for path in record.folder.rglob("*") if path.is_file()]
    return {path.suffix for path in files if any(word.encode() in path.read_bytes() for word in words)}


STATED = {
    "AccessionNumber": "ACC-90210", "InstitutionName": "Klinik Sankt Beispiel", "ReferringPhysicianName": "Arzt^Anton",
    "StudyDescription": "Nachsorge Musterfrau", "SeriesDescription": "Musterfrau, Erika", "StudyID": "STUDY-77",
    "StudyDate": "20240229", "OtherPatientIDs": "OLD-12", "PatientAddress": "Musterweg 5", "OperatorsName": "Op^Olga",
    "PatientComments": "kommt wieder", "AdmissionID": "ADM-3", "PatientAge": "053Y",
}  # fmt: skip
WORDS = (
    "Musterfrau", "Erika", IDENTITY, "19700101", "ACC-90210", "Sankt Beispiel", "Arzt", "STUDY-77", "20240229",
    "OLD-12", "Musterweg", "Olga", "kommt wieder", "ADM-3", "053Y",
)  # fmt: skip


@pytest.fixture
def described(series):
    """The series with all that a hospital adds, and private elements."""
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        for name, value in STATED.items():
            setattr(dataset, name, value)
        dataset.private_block(0x0011, "A SCANNER", create=True).add_new(1, "LO", "Musterfrau^Erika")
        dataset.save_as(path)
    return series


def test_the_patient_is_in_no_output(predicted, described, capfd):
    _, record = predicted(described, forms=("dicom_seg", "overlay", "splash", "coco", "findings"))
    assert outputs_with(record, *WORDS) == set()
    said = capfd.readouterr()
    assert not any(word in said.out + said.err for word in WORDS)
    found = pydicom.dcmread(record.folder / "dicom_seg/scan.dcm")
    assert (found.PatientIdentityRemoved, found.PatientName, found.StudyDate) == ("YES", "", "")


def test_the_patient_is_in_the_segmentation_when_asked_for_and_nowhere_else(predicted, described):
    _, record = predicted(described, forms=("dicom_seg", "overlay", "coco"), keep_patient=True)
    assert outputs_with(record, *WORDS) == {".dcm"}
    found = pydicom.dcmread(record.folder / "dicom_seg/scan.dcm")
    assert (found.PatientName, found.PatientID, found.PatientBirthDate) == (NAME, IDENTITY, "19700101")
    assert "PatientIdentityRemoved" not in found


def test_what_is_no_series_is_single_images(tmp_path):
    folder = tmp_path / "in"
    zero = np.zeros((4, 5), np.uint8)
    write(folder / "two/a.dcm", zero, series="1.1", place=0.0)
    write(folder / "two/b.dcm", zero, series="1.1", place=0.0)  # at one place
    write(folder / "turned/a.dcm", zero, series="1.2", place=0.0)
    write(folder / "turned/b.dcm", zero, series="1.2", place=1.0, ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    write(folder / "sizes/a.dcm", zero, series="1.3", place=0.0)
    write(folder / "sizes/b.dcm", zero[:2], series="1.3", place=1.0)
    write(folder / "us/a.dcm", zero, series="1.4")
    write(folder / "us/b.dcm", zero, series="1.4")
    for series in ("1.5", "1.6"):
        for place in range(2):
            write(folder / f"both/{series}-{place}", zero, series=series, place=float(place))
    found = find_inputs([str(folder)], base=tmp_path, output=tmp_path / "out", fetch=None)
    kinds = {item.name: (item.kind, len(item.files)) for item in found.items}
    assert {name: kind for name, kind in kinds.items() if "series" not in name} == {
        f"{name}/{file}": ("dicom", 1) for name in ("two", "turned", "sizes", "us") for file in "ab"
    }
    assert sorted(kind for name, kind in kinds.items() if name.startswith("both/series-")) == [("series", 2)] * 2


def found_in(folder):
    found = find_inputs([str(folder)], base=folder, output=folder / "out", fetch=None)
    return [(item.name, item.kind, len(item.files)) for item in found.items], found


STORAGE = "1.2.840.10008.5.1.4.1.1."
OTHERS = {
    "a.dcm": ("88.33", "SR", "Comprehensive SR"), "b": ("66.4", "SEG", "Segmentation"),
    "c": ("481.2", "RTDOSE", "RT Dose"), "d": ("481.3", "RTSTRUCT", "RT Structure Set"),
    "e": ("11.1", "PR", "Grayscale Softcopy Presentation State"), "f": ("88.59", "KO", "Key Object Selection Document"),
    "g": ("104.1", "DOC", "Encapsulated PDF"),
}  # fmt: skip


def test_what_is_no_image_is_left_out_with_its_kind_and_the_stack_stays_together(tmp_path):
    folder = tmp_path / "ct"
    for place in range(4):
        write(folder / f"IM{place}", slices()[place], series="1.5", place=2.0 * place)
    scout = {"series": "1.5", "place": 0.0, "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write(folder / "IM9", slices()[0][:30], **scout, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    for name, (storage, modality, _) in OTHERS.items():
        write(folder / name, slices()[0], storage=STORAGE + storage, modality=modality, series="1.5", place=0.0)
    (folder / "VIEWER.EXE").write_bytes(b"MZ")
    items, found = found_in(folder)
    assert items == [("ct", "series", 4)] and found.problems == []
    line = found.skipped_line()
    for name, (_, _, kind) in OTHERS.items():
        assert f"DICOM files of the kind {kind}: {name}" in line
    assert "files of no kind that is read: VIEWER.EXE" in line and "DICOM files of the kind localizer: IM9" in line
    assert "\n" not in line


def test_a_slice_that_lies_otherwise_is_an_image_on_its_own_beside_the_stack(tmp_path):
    for place in range(3):
        write(tmp_path / "s" / f"{place}.dcm", slices()[0], series="1.6", place=float(place))
    write(tmp_path / "s" / "9.dcm", slices()[0], series="1.6", place=0.0, ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    assert found_in(tmp_path / "s")[0] == [("9", "dicom", 1), ("s", "series", 3)]
    for place in range(3):
        turned = {"ImagePositionPatient": [float(place), 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
        write(tmp_path / "s" / f"t{place}.dcm", slices()[0], series="1.6", place=0.0, **turned)
    (tmp_path / "s" / "9.dcm").unlink()
    assert sorted(count for _, _, count in found_in(tmp_path / "s")[0]) == [3, 3]


def test_localizers_alone_are_images(tmp_path):
    write(tmp_path / "s/a", slices()[0], series="1.7", place=0.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert found_in(tmp_path / "s")[0] == [("a", "dicom", 1)]


def test_a_folder_of_nothing_but_other_files_is_an_error_that_names_them(tmp_path):
    write(tmp_path / "cd/SR0", slices()[0], storage=STORAGE + "88.33", modality="SR")
    (tmp_path / "cd/autorun.inf").write_bytes(b"x")
    with pytest.raises(InputError, match=r"nothing to predict; .*autorun\.inf; DICOM files .* Comprehensive SR: SR0"):
        found_in(tmp_path / "cd")


def test_a_segmentation_of_a_file_that_is_named_by_itself_is_a_problem(predicted, tmp_path):
    path = write(tmp_path / "seg.dcm", slices()[0], storage=STORAGE + "66.4", modality="SEG")
    report, _ = predicted(path)
    assert report.problems == [f"{path}: Segmentation (DICOM); expected an image"]


def test_a_bare_data_set_is_predicted_and_segmented(predicted, tmp_path):
    hd = pytest.importorskip("highdicom")
    whole = write(tmp_path / "whole", slices()[3], storage=UltrasoundImageStorage, modality="US")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bare").write_bytes(whole.read_bytes()[132:])
    report, record = predicted(tmp_path / "in", forms=("mask", "dicom_seg"))
    assert report.problems == [] and report.predicted == 1
    found = hd.seg.segread(record.folder / "dicom_seg/bare.dcm")
    uid = pydicom.dcmread(whole).SOPInstanceUID
    pixels = found.get_pixels_by_source_instance([uid], ignore_spatial_locations=True)
    np.testing.assert_array_equal(pixels[0, ..., 0], slices()[3] == 150)


def test_a_cd_of_a_hospital(tmp_path):
    folder = Path(__file__).parents[3].parent / "shared" / "faults" / "pr_cd"
    if not folder.is_dir():
        pytest.skip("no such data here")
    items, found = found_in(folder)
    assert items == [(f"DICOM/IM00000{number}", "dicom", 1) for number in range(3)]
    assert found.skipped_line() == (
        "2 files of no kind that is read: VIEWER.EXE, autorun.inf; "
        "DICOM files of the kind Media Storage Directory: DICOMDIR; "
        "DICOM files of the kind Comprehensive SR: DICOM/SR000000"
    )


def test_a_structure_set_and_a_nifti_file_of_a_series_lie_where_the_slices_lie(predicted, series):
    report, record = predicted(series, forms=("rtstruct", "nifti"))
    assert report.problems == []
    found = {1: (slices() >= 100) & (slices() < 200), 2: slices() >= 200}
    made = pydicom.dcmread(record.folder / "rtstruct/scan.dcm")
    assert (made.Modality, made.PatientName, made.StudyDate) == ("RTSTRUCT", "", "")
    assert made.PatientID not in ("", IDENTITY) and NAME not in str(made)
    assert [roi.ROIName for roi in made.StructureSetROISequence] == ["dim", "bright"]
    uids = {}
    for path in series.iterdir():
        header = pydicom.dcmread(path)
        uids[header.SOPInstanceUID] = int(header.ImagePositionPatient[2] / 2)
    y, x = np.mgrid[:40, :56]
    centers = np.stack([x.ravel() * 0.25, y.ravel() * 0.5], axis=1)  # PixelSpacing is 0.5 between rows
    for roi in made.ROIContourSequence:
        regions = np.zeros((6, 40, 56), bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            index = uids[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            assert set(points[:, 2]) == {2.0 * index}
            regions[index] |= Outline(points[:, :2]).contains_points(centers).reshape(40, 56)
        np.testing.assert_array_equal(regions, found[roi.ReferencedROINumber])
    names, regions, _ = read_structure_set(
        record.folder / "rtstruct/scan.dcm", np.diag([0.25, 0.5, 2, 1]).astype(float), (6, 40, 56)
    )
    assert names == ["dim", "bright"]
    np.testing.assert_array_equal(regions, np.stack(list(found.values())))
    nifti = nibabel.load(record.folder / "nifti/scan.nii.gz")
    np.testing.assert_allclose(nifti.affine, np.diag([-0.25, -0.5, 2, 1]))  # NIfTI counts to the right and the front
    np.testing.assert_array_equal(np.asarray(nifti.dataobj).transpose(2, 1, 0), found[1] * 1 + found[2] * 2)


def test_the_default_outputs_of_a_series_have_no_nifti(predicted, series):
    _, record = predicted(series, forms=DEFAULT_FORMATS)
    assert not (record.folder / "nifti").exists()
