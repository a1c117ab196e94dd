"""DICOM files written with pydicom, whose shown values are worked out by hand from the standard."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1, generate_uid

from mrcnn.data import read_dataset
from mrcnn.data.images import read_header, read_image
from mrcnn.errors import InputError

RAMP = np.arange(0, 240, 2, dtype=np.uint16).reshape(10, 12) * 10  # 0 … 2380


def write(path, pixels=RAMP, *, bits=None, photometric=None, frames=None, syntax=ExplicitVRLittleEndian, **fields):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality = "OT"
    if pixels is not None:
        colour = pixels.ndim == 3 and frames is None
        dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
        dataset.SamplesPerPixel = 3 if colour else 1
        if colour:
            dataset.PlanarConfiguration = 0
        if frames:
            dataset.NumberOfFrames = frames
        dataset.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
        dataset.BitsAllocated = pixels.dtype.itemsize * 8
        dataset.BitsStored = bits or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_deep_grey_keeps_its_units_without_a_window(tmp_path):
    image = read_image(write(tmp_path / "a.dcm", bits=12))
    assert image.dtype == np.float32 and image.shape == (10, 12, 1)
    np.testing.assert_array_equal(image[..., 0], RAMP)


def test_rescaling(tmp_path):
    image = read_image(write(tmp_path / "a.dcm", bits=12, RescaleSlope=2, RescaleIntercept=-1024))
    np.testing.assert_array_equal(image[..., 0], RAMP * 2.0 - 1024)


def test_the_first_window_is_applied_as_the_standard_says(tmp_path):
    path = write(tmp_path / "a.dcm", bits=12, WindowCenter=[1000, 5], WindowWidth=[401, 7])
    # PS3.3 C.11.2.1.2.1: below c - 0.5 - (w - 1) / 2 black, above c - 0.5 + (w - 1) / 2 white, linear between.
    expected = np.clip(((RAMP - 999.5) / 400 + 0.5), 0, 1) * 4095
    np.testing.assert_allclose(read_image(path)[..., 0], expected, atol=0.01)


def test_a_table_is_applied(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [3, 0, 8]
    table.LUTData = np.array([10, 200, 90], "<u2").tobytes()
    path = write(tmp_path / "a.dcm", np.array([[0, 1], [2, 5]], np.uint8), VOILUTSequence=[table])
    table_values = read_image(path)[..., 0]
    assert table_values.tolist() == [[10, 200], [90, 90]]  # beyond its end the table keeps its last value


def test_white_may_be_low(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = write(tmp_path / "a.dcm", grey, photometric="MONOCHROME1")
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], 255 - grey)
    deep = read_image(write(tmp_path / "b.dcm", bits=12, photometric="MONOCHROME1"))[..., 0]
    np.testing.assert_array_equal(deep, 2380.0 - RAMP)


def test_colour(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", colour)), colour)
    red = np.tile(np.uint8([76, 85, 255]), (4, 6, 1))  # pure red (ITU-R BT.601, full range)
    image = read_image(write(tmp_path / "b.dcm", red, photometric="YBR_FULL"))
    np.testing.assert_allclose(image[0, 0].astype(int), [254, 0, 0], atol=2)


def test_files_are_known_by_their_content(tmp_path):
    image = read_image(write(tmp_path / "IM000001", bits=12))
    np.testing.assert_array_equal(image[..., 0], RAMP)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pixels": np.stack([RAMP, RAMP]), "frames": 2}, "DICOM with 2 frames; expected a single image"),
        ({"pixels": None, "Modality": "SR"}, r"DICOM without pixels \(modality SR\)"),
        ({"WindowCenter": 40, "WindowWidth": 0}, "expected a readable"),
        ({"Rows": 300}, "expected a readable"),
    ],
)
def test_what_is_no_single_image_is_named(tmp_path, fields, message):
    path = write(tmp_path / "a.dcm", **fields)
    with pytest.raises(InputError, match=rf"a\.dcm: {message}"):
        read_image(path)


def test_a_codec_that_is_missing_is_named(tmp_path):
    from pydicom.encaps import encapsulate

    path = write(tmp_path / "a.dcm", bits=12, PixelData=encapsulate([b"\xff\xd8" + bytes(40)]), syntax=JPEGLosslessSV1)
    with pytest.raises(InputError, match=r"a\.dcm: expected a readable .*JPEG Lossless"):
        read_image(path)


def test_spacing_of_pixels(tmp_path):
    header = read_header(write(tmp_path / "a.dcm", PixelSpacing=[0.4, 0.7]))
    assert (header.height, header.width, header.spacing_mm) == (10, 12, (0.4, 0.7))
    assert read_header(write(tmp_path / "b.dcm")).spacing_mm is None


def region(right, across, down, units=(3, 3), space=1):
    found = Dataset()
    found.RegionSpatialFormat = space
    found.RegionLocationMinX0, found.RegionLocationMinY0 = 0, 0
    found.RegionLocationMaxX1, found.RegionLocationMaxY1 = right, 9
    found.PhysicalUnitsXDirection, found.PhysicalUnitsYDirection = units
    found.PhysicalDeltaX, found.PhysicalDeltaY = across, down
    return found


def test_spacing_of_ultrasound_comes_from_its_largest_region_in_centimetres(tmp_path):
    other = [region(11, 0.1, 0.1, units=(4, 7)), region(12, 1, 1, space=2)]  # a Doppler's axes, an M-mode
    regions = [region(5, 0.5, 0.5), region(9, 0.008, -0.006), *other]
    header = read_header(write(tmp_path / "a.dcm", SequenceOfUltrasoundRegions=regions))
    assert header.spacing_mm == pytest.approx((0.06, 0.08))
    assert read_header(write(tmp_path / "b.dcm", SequenceOfUltrasoundRegions=other)).spacing_mm is None


def test_patients_are_known_by_a_pseudonym_alone(tmp_path):
    stated = {"PatientName": "Doe^Jane", "PatientBirthDate": "19700101"}
    first = read_header(write(tmp_path / "a.dcm", PatientID="4711", **stated)).patient_id
    second = read_header(write(tmp_path / "b.dcm", PatientID=" 4711 ", PatientName="Other")).patient_id
    assert first == second and len(first) == 16 and int(first, 16) and "4711" not in first
    assert read_header(write(tmp_path / "c.dcm", PatientID="4712")).patient_id != first
    assert read_header(write(tmp_path / "d.dcm", PatientID="4711", IssuerOfPatientID="B")).patient_id != first
    assert read_header(write(tmp_path / "e.dcm", PatientID="", **stated)).patient_id is None


def test_a_coco_set_of_dicom_images(tmp_path, coco, write_coco):
    folder = write_coco(coco)
    for entry, patient in zip(coco["images"], ("x", "x"), strict=True):
        pixels = np.zeros((12, 20), np.uint16)
        write(folder / "images" / entry["file_name"], pixels, PatientID=patient, PixelSpacing=[0.2, 0.3])
        (folder / "images" / entry["file_name"]).rename(folder / "images" / f"{entry['file_name'][:-4]}.dcm")
    text = (folder / "annotations.json").read_text().replace(".png", ".dcm")
    (folder / "annotations.json").write_text(text)
    dataset = read_dataset(folder)
    assert len({record.patient_id for record in dataset.records}) == 1 and not dataset.warnings
    assert {record.spacing_mm for record in dataset.records} == {(0.2, 0.3)}
    assert dataset[1].spacing_mm == (0.2, 0.3) and dataset[1].image.shape == (12, 20, 1)
    by_name = read_dataset(folder, patient_pattern="^.")
    assert [record.patient_id for record in by_name.records] == ["a", "b"]
