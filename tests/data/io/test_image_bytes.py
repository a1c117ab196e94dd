"""Files in memory are what the same files on disk are; what is damaged or made to mislead is an `InputError`."""

import io
import struct
import zlib

import numpy as np
import pydicom
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import read_image
from mrcnn.errors import InputError

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (16, 19), np.uint8)
COLOR = RNG.integers(0, 256, (16, 19, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (16, 19), np.uint16)


def picture(pixels, form, **options):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, form, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def dicom(pixels=GRAY, syntax=ExplicitVRLittleEndian, **fields):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.Modality = "Doe^Jane", "US"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(dataset, name, value)
    if syntax == JPEGBaseline8Bit:
        dataset.PixelData = encapsulate([picture(pixels, "JPEG")])
        dataset["PixelData"].VR = "OB"
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


FILES = {
    "gray.png": picture(GRAY, "PNG"),
    "color.png": picture(COLOR, "PNG"),
    "deep.png": picture(DEEP, "PNG"),
    "palette.png": picture(Image.fromarray(COLOR).quantize(8), "PNG"),
    "alpha.png": picture(np.dstack([COLOR, GRAY]), "PNG"),
    "color.jpg": picture(COLOR, "JPEG"),
    "gray.bmp": picture(GRAY, "BMP"),
    "gray.tif": picture(GRAY, "TIFF"),
    "packed.tif": picture(DEEP, "TIFF", compression="tiff_deflate"),
    "deep.tif": tiff(DEEP[..., None].repeat(3, -1), photometric="rgb"),
    "planes.tif": tiff(np.stack([DEEP, DEEP // 2, DEEP // 3]), photometric="rgb", planarconfig="separate"),
    "float.tif": tiff(DEEP.astype(np.float32) / 7),
    "gray.dcm": dicom(PixelSpacing=[0.5, 0.25]),
    "deep.dcm": dicom(DEEP, WindowCenter="3000", WindowWidth="900", RescaleSlope="2", RescaleIntercept="-5"),
    "rle.dcm": dicom(syntax=RLELossless),
}


@pytest.mark.parametrize("name", FILES)
def test_bytes_are_what_the_file_is(tmp_path, name):
    (tmp_path / name).write_bytes(FILES[name])
    expected = read_image(tmp_path / name)
    image, spacing = decode_image(FILES[name])
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    assert spacing == ((0.5, 0.25) if name == "gray.dcm" else None)


@pytest.mark.parametrize("name", FILES)
def test_more_pixels_than_allowed_are_told_from_the_header(name):
    assert decode_image(FILES[name], 16 * 19)[0].shape[:2] == (16, 19)
    with pytest.raises(InputError, match=r"16 × 19 pixels; expected at most 303"):
        decode_image(FILES[name], 303)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no bytes"),
        (b"/etc/passwd", "expected a PNG"),
        (tiff(np.stack([GRAY, GRAY]), photometric="minisblack"), "TIFF of several pages"),
        (tiff(np.stack([DEEP[..., None].repeat(3, -1)] * 2), photometric="rgb"), "TIFF of several pages"),
        (tiff(DEEP[..., None].repeat(3, -1), photometric="rgb", compression="zlib"), "compressed TIFF"),
        (dicom(NumberOfFrames=2, PixelData=GRAY.tobytes() * 2), "DICOM with 2 frames"),
        (dicom(syntax=DeflatedExplicitVRLittleEndian), "deflated DICOM"),
        (dicom(PixelData=b"\0\0"), "damaged DICOM, or cut short"),
        (dicom(SamplesPerPixel=60000), "60000 samples a pixel"),
        (dicom(syntax=JPEGBaseline8Bit)[:-40], "DICOM without pixels, or cut short"),
        (tiff(np.full((3, 3), np.nan, np.float32)), "pixels are NaN or infinite"),
    ],
)
def test_what_is_refused(data, told):
    with pytest.raises(InputError, match=told) as caught:
        decode_image(data)
    assert "Doe" not in str(caught.value)


def runs(width, height, encoded):
    """A gray BMP of 8 bits in run lengths (BI_RLE8), whose last line comes first."""
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(encoded), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(encoded), 0, 0, start) + header + palette + encoded


def test_run_lengths_are_read_as_far_as_runs_go():
    image, _ = decode_image(runs(5, 2, bytes([3, 9, 2, 7, 0, 0, 5, 1, 0, 1])))
    assert image[1, :, 0].tolist() == [9, 9, 9, 7, 7]
    assert image[0, :, 0].tolist() == [1] * 5
    # Each end of a line would be filled up by Pillow one pixel at a time.
    with pytest.raises(InputError, match="4096×4096 pixels in 9270 bytes; expected at most 256 a byte"):
        decode_image(runs(4096, 4096, bytes([1, 5, 0, 0]) * 2048))


def test_a_deflated_file_is_never_unpacked(monkeypatch):
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="deflated DICOM"):
        decode_image(dicom(syntax=DeflatedExplicitVRLittleEndian))


def test_no_element_that_names_a_patient_is_read(monkeypatch):
    read = []
    partial = pydicom.filereader.read_partial
    monkeypatch.setattr(pydicom.filereader, "read_partial", lambda *a, **k: read.append(partial(*a, **k)) or read[0])
    decode_image(dicom())
    assert "Rows" in read[0] and "PatientName" not in read[0]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(FILES)),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
)
@example(name="deep.tif", cut=0.25, changes=[(0.30859375, 0)])  # a page without data
def test_whatever_is_changed_it_is_an_image_or_an_input_error(name, cut, changes):
    data = bytearray(FILES[name][: max(1, round(len(FILES[name]) * (1 - cut**3)))])
    for place, value in changes:
        data[int(place**2 * len(data))] = value
    try:
        image, _ = decode_image(bytes(data), 1 << 16)
    except InputError as error:
        assert "Doe" not in str(error) and "object at" not in str(error)
    else:
        assert image.ndim == 3 and image.shape[0] * image.shape[1] <= 1 << 16 and np.isfinite(image).all()
