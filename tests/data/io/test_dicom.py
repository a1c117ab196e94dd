"""DICOM files written with pydicom, whose shown values are worked out by hand from the standard."""

import io
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut, apply_voi_lut
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    generate_uid,
)

from mrcnn.data import read_dataset
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import read_header, read_image
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
        color = pixels.ndim == 3 and frames is None
        dataset.Rows, dataset.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
        dataset.SamplesPerPixel = 3 if color else 1
        if color:
            dataset.PlanarConfiguration = 0
        if frames:
            dataset.NumberOfFrames = frames
        dataset.PhotometricInterpretation = photometric or ("RGB" if color else "MONOCHROME2")
        dataset.BitsAllocated = pixels.dtype.itemsize * 8
        dataset.BitsStored = bits or dataset.BitsAllocated
        dataset.HighBit = dataset.BitsStored - 1
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_deep_gray_keeps_its_units_without_a_window(tmp_path):
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
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = write(tmp_path / "a.dcm", gray, photometric="MONOCHROME1")
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[..., 0], 255 - gray)
    deep = read_image(write(tmp_path / "b.dcm", bits=12, photometric="MONOCHROME1"))[..., 0]
    np.testing.assert_array_equal(deep, 2380.0 - RAMP)


def test_color(tmp_path):
    color = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    np.testing.assert_array_equal(read_image(write(tmp_path / "a.dcm", color)), color)
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
        ({"pixels": None}, "DICOM without pixels, or cut short; expected an image, whole"),
        ({"WindowCenter": 40, "WindowWidth": 0}, r"WindowWidth \(DICOM\): 0; expected at least 1"),
        ({"Rows": 300}, "damaged DICOM, .*its pixels are not what its header says"),
    ],
)
def test_what_is_no_single_image_is_named(tmp_path, fields, message):
    path = write(tmp_path / "a.dcm", **fields)
    with pytest.raises(InputError, match=rf"a\.dcm: {message}"):
        read_image(path)


def test_a_codec_that_is_missing_is_named(tmp_path):
    path = write(tmp_path / "a.dcm", bits=12, PixelData=encapsulate([b"\xff\xd8" + bytes(40)]), syntax=JPEGLosslessSV1)
    with pytest.raises(InputError, match=r"a\.dcm: pixels compressed: JPEG Lossless.*; no installed library"):
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
    upper, lower = (
        read_header(write(tmp_path / f"{key.strip()}.dcm", PatientID=key)).patient_id for key in ("P\u00a003", "p 03 ")
    )
    assert upper == lower != first
    assert read_header(write(tmp_path / "n.dcm", PatientID="N/A")).patient_id is None
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


SHARED = Path(__file__).parents[3].parent / "shared" / "faults"
INDICES = np.array([[0, 1, 2], [3, 250, 251]], np.uint8)
RAINBOW = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2], axis=-1).astype(np.uint8)
WORD = {"low": lambda table: table.astype(np.uint16), "high": lambda table: table.astype(np.uint16) << 8}


def with_palette(path, tables, bits, first=0, entries=None, indices=INDICES, order="<", **fields):
    """Tables (N, 3), written as bytes or as words in the byte order."""
    stated = {}
    for number, color in enumerate(("Red", "Green", "Blue")):
        name = f"{color}PaletteColorLookupTable"
        plane = np.ascontiguousarray(tables[:, number])
        stated[f"{name}Descriptor"] = [entries or len(tables) % 65536, first, bits]
        stated[f"{name}Data"] = plane.astype(plane.dtype.newbyteorder(order)).tobytes()
    syntax = ExplicitVRLittleEndian if order == "<" else ExplicitVRBigEndian
    return write(path, indices, photometric="PALETTE COLOR", syntax=syntax, **stated, **fields)


@pytest.mark.parametrize("stated", [8, 16])
@pytest.mark.parametrize("byte", ["low", "high"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_palette_of_8_bit_entries_in_words(tmp_path, stated, byte, order):
    path = with_palette(tmp_path / "a.dcm", WORD[byte](RAINBOW), stated, order=order)
    np.testing.assert_array_equal(read_image(path), RAINBOW[INDICES])
    np.testing.assert_array_equal(decode_image(path.read_bytes())[0], RAINBOW[INDICES])


def test_a_palette_of_bytes_and_one_of_16_bits_are_as_pydicom_has_them(tmp_path):
    path = with_palette(tmp_path / "a.dcm", RAINBOW, 8)
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(read_image(path), apply_color_lut(dataset.pixel_array, dataset))
    deep = RAINBOW.astype(np.uint16) * 257 - (RAINBOW > 0)
    path = with_palette(tmp_path / "b.dcm", deep, 16)
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(read_image(path), apply_color_lut(dataset.pixel_array, dataset) >> 8)


def test_a_short_palette_holds_from_the_first_value_that_it_maps(tmp_path):
    path = with_palette(tmp_path / "a.dcm", RAINBOW[10:13], 8, first=2)  # an odd length, which is padded
    assert read_image(path)[..., 0].tolist() == [[10, 10, 10], [11, 12, 12]]
    signed = np.array([[-3, -2, -1], [0, 1, 300]], np.int16)
    path = with_palette(tmp_path / "b.dcm", RAINBOW[10:14], 8, first=-2, indices=signed)
    assert read_image(path)[..., 0].tolist() == [[10, 10, 11], [12, 13, 13]]
    every = np.repeat(np.arange(256, dtype=np.uint16), 256)
    path = with_palette(
        tmp_path / "c.dcm", np.stack([every] * 3, -1), 16, indices=np.array([[0, 255, 256, 65535]], np.uint16)
    )
    assert read_image(path)[..., 0].tolist() == [[0, 0, 1, 255]]


def test_a_palette_in_segments(tmp_path):
    # Two entries as they are, then four in a line to 20, then those two segments once more (PS3.3, C.7.9.2).
    words = [0, 2, 4, 8, 1, 4, 20, 2, 2, 0, 0]
    expected = [4, 8, 11, 14, 17, 20, 4, 8, 11, 14, 17, 20]
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for bits, form, used in ((16, "H", words), (8, "B", [*words, 0, 0])):
        data = struct.pack(f"<{len(used)}{form}", *used)
        stated = {
            f"{before}{color}PaletteColorLookupTable{after}": value
            for color in ("Red", "Green", "Blue")
            for before, after, value in (("", "Descriptor", [12, 0, bits]), ("Segmented", "Data", data))
        }
        path = write(tmp_path / "a.dcm", indices, photometric="PALETTE COLOR", **stated)
        assert read_image(path)[..., 1].ravel().tolist() == expected
        stated["SegmentedRedPaletteColorLookupTableData"] = data[:-6]
        with pytest.raises(InputError, match=r"SegmentedRed.* its segments do not make 12 entries"):
            read_image(write(tmp_path / "b.dcm", indices, photometric="PALETTE COLOR", **stated))


def test_the_palette_of_the_faults_is_no_longer_black():
    path = SHARED / "d1_palette/images/p000.dcm"
    if not path.is_file():
        pytest.skip("no such data here")
    dataset = pydicom.dcmread(path)
    words = [np.frombuffer(dataset[f"{color}PaletteColorLookupTableData"].value, "<u2") for color in ("Red", "Green")]
    np.testing.assert_array_equal(read_image(path)[..., 0], words[0][dataset.pixel_array])
    np.testing.assert_array_equal(read_image(path)[..., 1], words[1][dataset.pixel_array])


def test_a_table_of_8_bit_entries_for_12_bit_values(tmp_path):
    """In pydicom's own function the positions wrap at 256."""
    table = Dataset()
    entries = np.arange(4096, dtype=np.uint16) // 16
    table.LUTDescriptor, table.LUTData = [4096, 0, 8], entries.astype("<u2").tobytes()
    path = write(tmp_path / "a.dcm", bits=12, VOILUTSequence=[table])
    np.testing.assert_array_equal(read_image(path)[..., 0], entries[RAMP])
    table.LUTDescriptor = [4096, 0, 12]
    path = write(tmp_path / "b.dcm", bits=12, VOILUTSequence=[table])
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(read_image(path)[..., 0], apply_voi_lut(dataset.pixel_array, dataset))


@pytest.mark.parametrize("width", [0, -5, 0.5, [0, -1]])
def test_a_window_that_cannot_be_applied_is_named(tmp_path, width):
    path = write(tmp_path / "a.dcm", bits=12, WindowCenter=[40] * np.size(width), WindowWidth=width)
    with pytest.raises(InputError, match=r"a\.dcm: WindowWidth \(DICOM\): .*; expected at least 1") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_of_several_windows_the_first_that_can_be_applied(tmp_path):
    expected = np.clip(((RAMP - 999.5) / 400 + 0.5), 0, 1) * 4095
    path = write(tmp_path / "a.dcm", bits=12, WindowCenter=[7, 1000, 5], WindowWidth=[0, 401, 7])
    np.testing.assert_allclose(read_image(path)[..., 0], expected, atol=0.01)
    np.testing.assert_array_equal(
        read_image(write(tmp_path / "b.dcm", bits=12, WindowCenter="", WindowWidth=""))[..., 0], RAMP
    )
    exact = write(tmp_path / "c.dcm", bits=12, WindowCenter=1000, WindowWidth=0.5, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(
        read_image(exact)[..., 0], np.where(RAMP > 1000, 4095, np.where(RAMP < 1000, 0, 2047.5))
    )
    for fields, told in (
        ({"WindowCenter": [1, 2], "WindowWidth": 7}, "2 and 1 values; expected pairs"),
        ({"WindowCenter": 1}, "1 and 0 values; expected pairs"),
        ({"WindowCenter": 1, "WindowWidth": 3, "VOILUTFunction": "ZQX"}, "VOILUTFunction .*: expected LINEAR"),
    ):
        with pytest.raises(InputError, match=told):
            read_image(write(tmp_path / "d.dcm", bits=12, **fields))


@pytest.mark.parametrize(
    "stated",
    [{"PixelSpacing": value} for value in ("0.4", [0, 0.4], [-1, 1], ["NaN", 1], ["1e308", "1e308"], ["1e-320", 1], "")]
    + [{"ImagerPixelSpacing": [0.2, 0.3]}],
)  # fmt: skip
def test_a_size_of_pixels_that_is_not_sound_is_unknown(tmp_path, stated):
    with warnings.catch_warnings(action="ignore"):
        path = write(tmp_path / "a.dcm", **{name: value for name, value in stated.items()})
    assert read_header(path).spacing_mm is None and read_image(path).shape == (10, 12, 1)
    assert decode_image(path.read_bytes())[1] is None


def test_text_for_the_size_of_pixels_is_unknown(tmp_path):
    path = write(tmp_path / "a.dcm", PixelSpacing=[1.25, 1.25])
    path.write_bytes(path.read_bytes().replace(b"1.25\\1.25", b"Zq7x\\Wq8y"))
    assert read_header(path).spacing_mm is None and read_image(path).shape == (10, 12, 1)


def test_spacing_at_the_detector_is_divided_by_the_magnification(tmp_path):
    stated = {"ImagerPixelSpacing": [0.3, 0.15], "EstimatedRadiographicMagnificationFactor": 1.5}
    path = write(tmp_path / "a.dcm", **stated)
    assert read_header(path).spacing_mm == pytest.approx((0.2, 0.1))
    assert decode_image(path.read_bytes())[1] == pytest.approx((0.2, 0.1))
    assert read_header(write(tmp_path / "b.dcm", PixelSpacing=[1, 2], **stated)).spacing_mm == (1, 2)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("part", ["meta", "data set"])
def test_without_a_preamble(tmp_path, syntax, part):
    ordered = RAMP.astype("<u2" if syntax.is_little_endian else ">u2")
    whole = write(tmp_path / "whole.dcm", ordered, bits=12, syntax=syntax, PatientID="4711", PixelSpacing=[0.2, 0.3])
    if part == "meta":
        data = whole.read_bytes()[132:]
    else:
        dataset, file = pydicom.dcmread(whole), io.BytesIO()
        del dataset.file_meta
        order = {"implicit_vr": syntax.is_implicit_VR, "little_endian": syntax.is_little_endian}
        pydicom.dcmwrite(file, dataset, enforce_file_format=False, **order)
        data = file.getvalue()
    (tmp_path / "bare").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "bare")[..., 0], RAMP)
    assert read_header(tmp_path / "bare") == read_header(whole)
    image, spacing = decode_image(data)
    assert spacing == (0.2, 0.3) and (image[..., 0] == RAMP).all()


@pytest.mark.parametrize("storage", ["88.33", "481.2", "66.4", "66.7", "104.1", "11.1", "88.59", "481.3"])
def test_what_is_no_picture_is_named_by_its_storage_class(tmp_path, storage):
    path = write(tmp_path / "a.dcm", SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{storage}")
    kind = "SR|RT Dose|Segmentation|Encapsulated PDF|Presentation State|Key Object Selection|RT Structure Set"
    for read in (read_image, read_header, lambda path: decode_image(path.read_bytes())):
        with pytest.raises(InputError, match=rf"({kind}).* \(DICOM\); expected an image$"):
            read(path)


def progressive(scans):
    """A progressive JPEG whose last scan is repeated; a decoder goes over the whole picture for each."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def test_scans_of_a_jpeg_are_counted_before_it_is_decoded(tmp_path):
    told = "JPEG with more than 100 scans; expected at most that many"
    forms = {
        "a.jpg": lambda data: data,
        "a.dcm": lambda data: write(
            tmp_path / "x", np.zeros((64, 64), np.uint8), syntax=JPEGBaseline8Bit, PixelData=encapsulate([data])
        ).read_bytes(),
    }
    for name, form in forms.items():
        (tmp_path / name).write_bytes(form(progressive(100)))
        expected = np.asarray(Image.open(io.BytesIO(progressive(20))))
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 0], expected)
        (tmp_path / name).write_bytes(form(progressive(5000)))
        started = time.process_time()
        for read in (read_image, lambda path: decode_image(path.read_bytes())):
            with pytest.raises(InputError, match=told):
                read(tmp_path / name)
        assert time.process_time() - started < 1
    assert read_header(tmp_path / "a.jpg").height == 64


def test_bytes_that_look_like_scans_in_a_comment_are_none(tmp_path):
    data = progressive(20)
    comment = b"\xff\xfe" + struct.pack(">H", 402) + b"\xff\xda" * 200
    (tmp_path / "a.jpg").write_bytes(data[:2] + comment + data[2:])
    assert read_image(tmp_path / "a.jpg").shape == (64, 64, 1)


SECRET = "Zq7Secret"


def spoil(path, keyword, representation, value):
    """Replaces an element by one of another form, as damage or another tool's mistake would."""
    dataset = pydicom.dcmread(path)
    dataset.pop(keyword, None)
    tag = pydicom.tag.Tag(keyword)
    dataset.save_as(path)
    data = path.read_bytes()
    element = struct.pack("<HH2sH", tag.group, tag.element, representation.encode(), len(value)) + value
    after = next(each for each in dataset if each.tag > tag)
    place = data.index(struct.pack("<HH", after.tag.group, after.tag.element) + after.VR.encode(), 132)
    path.write_bytes(data[:place] + element + data[place:])


ELEMENTS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "PixelSpacing", "WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope",
    "RescaleIntercept", "NumberOfFrames", "SOPClassUID", "Modality", "PatientID", "SeriesInstanceUID",
    "ImagePositionPatient", "SequenceOfUltrasoundRegions", "ImageType", "PlanarConfiguration", "PatientName",
    "RedPaletteColorLookupTableDescriptor", "SpecificCharacterSet",
)  # fmt: skip
READ_ALL = """
import sys, traceback
from pathlib import Path
from mrcnn.data.io.dicom_series import group_series
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import read_header, read_image
refused = 0
for path in map(Path, sys.argv[1:]):
    for read in (read_image, read_header, lambda path: decode_image(path.read_bytes())):
        try:
            read(path)
        except ValueError:
            traceback.print_exc()
            refused += 1
print(len(group_series(map(Path, sys.argv[1:])).alone), refused)
"""


def test_no_words_of_a_damaged_header_come_out(tmp_path):
    """Not even in the traceback of the error, in a warning, or in a line of a log."""
    paths = []
    for keyword in ELEMENTS:
        for form in ("LO", "DS", "UI", "US", "SQ", "UN", "own"):
            representation = pydicom.datadict.dictionary_VR(keyword).split()[0] if form == "own" else form
            path = tmp_path / f"{keyword}-{form}.dcm"
            write(path, bits=12, WindowCenter=4, WindowWidth=9, SeriesInstanceUID="1.2", StudyID="9")
            value = SECRET.encode() + b" "
            spoil(path, keyword, representation, bytes(6) + value if representation in ("SQ", "UN") else value)
            paths.append(path)
    path = write(tmp_path / "syntax.dcm", bits=12)
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1", b"Zq7Secret.Zq7Secret"))
    code = f"import logging; logging.basicConfig(level=logging.DEBUG)\n{READ_ALL}"
    command = [sys.executable, "-W", "always", "-c", code, *map(str, [*paths, path])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-3000:]
    alone, refused = map(int, done.stdout.split())
    assert refused > 100 and alone > 100
    assert SECRET not in done.stderr and "Warning" not in done.stderr
    assert "Rows (DICOM): expected numbers" in done.stderr
