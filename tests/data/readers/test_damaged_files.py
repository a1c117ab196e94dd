"""Whatever a file holds, reading it gives samples or an `InputError`, soon, and without much memory."""

import gzip
import json
import logging
import resource
import struct
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.data.annotation_formats import FORMATS
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.io.nifti import open_nifti
from mrcnn.data.io.pictures import MAX_PIXELS
from mrcnn.data.readers.segmentation import encode_segmentation
from mrcnn.errors import InputError

sys.path.insert(0, str(Path(__file__).parents[3]))  # benchmarks are not installed
from benchmarks.fuzz_targets import TARGETS

pytestmark = pytest.mark.filterwarnings("ignore")
FAST, LONG = 60, 5000
LEAST_MEMORY = 64 << 20


@pytest.fixture(autouse=True)
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def damaged(name, examples):
    target = TARGETS[name]

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(random=st.randoms(use_true_random=False), file=st.sampled_from(sorted(target.seeds)))
    def try_one(random, file):
        content = target.damage(target.seeds[file], random)
        started = time.process_time()
        target.try_one(folder, file, content)
        assert time.process_time() - started < 10
        (folder / file).unlink()

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        try_one()


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name):
    damaged(name, FAST)


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS)
def test_many_damaged_files_are_read_or_refused(name):
    damaged(name, LONG)


@pytest.mark.parametrize("name", TARGETS)
def test_the_files_are_whole_before_they_are_damaged(name, tmp_path):
    for file, content in TARGETS[name].seeds.items():
        assert TARGETS[name].try_one(tmp_path / Path(file).name, file, content), file


def refused(tmp_path, name, file, content, message):
    """That a file is refused with these words, quickly and without taking memory."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    target = TARGETS[name]
    try:
        for other, held in (target.surroundings | {file: content}).items():
            (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / other).write_bytes(held)
        with pytest.raises(InputError, match=message) as caught:
            if name in FORMATS:
                read_dataset(tmp_path, name)
            else:
                target.read(tmp_path, tmp_path / file)
        assert tracemalloc.get_traced_memory()[1] < LEAST_MEMORY
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
    assert len(str(caught.value)) < 5000
    str(caught.value).encode("utf-8")


def tiff_of(width, height):
    """A TIFF whose header alone is of that size."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1),
            (278, 4, height), (279, 4, 40)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 300


def png_of(width, height):
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + b"\0" * 40


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", png_of(100_000, 100_000)),
        ("b.png", png_of(13_000, 12_000)),  # within Pillow's own limit, beyond ours
        ("a.tif", tiff_of(100_000, 100_000)),
        ("b.tif", tiff_of(MAX_PIXELS + 1, 1)),
    ],
)
def test_a_header_of_too_many_pixels_is_refused_before_any_is_made(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for read in (read_header, read_image):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)
    refused(tmp_path, "image", name, content, name)


def test_a_deep_tiff_of_too_many_pixels_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint16), photometric="rgb")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        places = [tiff.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    for place in places:
        content[place : place + 2] = struct.pack("<H", 60_000)
    refused(tmp_path, "image", "a.tif", bytes(content), "3600000000 pixels|at most 134,217,728 pixels")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(32767, 32767, 32767), (2048, 2048, 400), (8, 6, -5), (0, 6, 5)])
def test_a_volume_that_its_file_cannot_hold_is_refused(tmp_path, name, shape):
    volume = bytearray(nibabel.Nifti1Image(np.zeros((8, 6, 5), np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])).to_bytes())
    volume[42:48] = struct.pack("<3h", *shape)
    content = gzip.compress(volume) if name.endswith("gz") else bytes(volume)
    refused(tmp_path, "nifti", name, content, r"voxels in \d+ bytes; expected|has shape|readable NIfTI")


@pytest.mark.parametrize("affine", [np.nan, np.inf, 3e38])
def test_an_affine_that_leads_nowhere_is_refused(tmp_path, affine):
    """NumPy's singular values did not converge on one, and its LinAlgError came out."""
    image = nibabel.Nifti1Image(np.zeros((8, 6, 5), np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    volume = bytearray(image.to_bytes())
    volume[280:284] = struct.pack("<f", affine)
    (tmp_path / "a.nii").write_bytes(volume)
    if np.isfinite(affine):
        open_nifti(tmp_path / "a.nii")
    else:
        with pytest.raises(InputError, match=r"a\.nii: "):
            open_nifti(tmp_path / "a.nii")


SPOILT = {
    "a number above all floats": ('"segmentation": [[2,', f'"segmentation": [[1{"0" * 400},', "not a finite number"),
    "a word as a number": ('"segmentation": [[2,', '"segmentation": [["two",', "not a finite number"),
    "half a character in a name": ('"name": "iso"', r'"name": "\ud800"', r"name '\\ud800'; expected a text"),
    "half a character in a file name": ('"file_name": "a_1.png"', r'"file_name": "\ud800"', r"ud800'; expected a path"),
    "half a character elsewhere": ('"image_id": 1', r'"image_id": "\ud800"', r"image_id '\\ud800' is not among"),
    "lists within lists": ('"segmentation": [[2,', f'"segmentation": [{"[" * 200_000},', "nested too deep|not a JSON"),
    "as deep as is still JSON": ('"image_id": 1', f'"image_id": {"[" * 800}{"]" * 800}', "not among|nested too deep"),
    "more digits than are read": ('"height": 12', f'"height": {"9" * 5000}', "not a JSON file"),
    "a side of many digits": ('"height": 12', f'"height": {"9" * 4000}', "20×12 pixels; expected"),
    "a spacing above all floats": ('"spacing_mm": [0.1', f'"spacing_mm": [1{"0" * 400}', "spacing_mm"),
    "run lengths above all integers": ('"counts": [15', f'"counts": [1{"0" * 400}', "run lengths for"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILT)
def test_a_coco_file_with_what_no_drawing_holds(tmp_path, what):
    old, new, message = SPOILT[what]
    text = TARGETS["coco"].seeds["annotations.json"].decode()
    assert old in text
    refused(tmp_path, "coco", "annotations.json", text.replace(old, new, 1).encode(), message)


def test_run_lengths_whose_sum_wraps_around_are_refused():
    """Each is below 2^63 and their sum, in 64 bits, the image's pixels; pycocotools would write beyond its mask."""
    with pytest.raises(ValueError, match="expected 240"):
        encode_segmentation({"size": [12, 20], "counts": [2**62, 2**62, 2**62, 2**62, 240]}, 12, 20)


def test_an_outline_longer_than_any_drawing_is_refused():
    with pytest.raises(ValueError, match="pixels long; expected an outline"):
        encode_segmentation([[0, 0, 3999, 3999] * 2000], 4000, 4000)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "circle", "cx": 10**400, "cy": 3, "r": 4}, "expected finite numbers"),
        ({"name": "circle", "cx": 3, "cy": 3, "r": 1e308}, "expected finite numbers"),
        ({"name": "polygon", "all_points_x": [1, 5, 10**400], "all_points_y": [1, 2, 3]}, "not a finite number"),
    ],
)
def test_a_via_file_with_what_no_drawing_holds(tmp_path, shape, message):
    region = {"shape_attributes": shape, "region_attributes": {}}
    content = json.dumps({"a": {"filename": "a_1.png", "regions": [region]}}).encode()
    refused(tmp_path, "via", "via_region_data.json", content, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "readable mask"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': ('a',\n", "readable mask"),  # tokenize's own error
        (TARGETS["masks"].seeds["masks/b.npy"].replace(b"(12, 20)", b"(9999999, 9999999)"), "readable mask"),
        (png_of(30_000, 30_000), "readable mask"),  # a PNG by another name
    ],
)
def test_an_array_that_is_no_mask(tmp_path, content, message):
    refused(tmp_path, "masks", "masks/b.npy", content, message)


def test_a_mask_image_of_too_many_pixels_is_refused(tmp_path):
    refused(tmp_path, "masks", "masks/a.png", png_of(100_000, 100_000), "readable mask")


def test_noise_is_no_mask(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    noise = np.zeros((400, 400), np.uint8)
    noise[::2, ::2] = 1  # 40,000 pieces
    Image.fromarray(noise).save(tmp_path / "masks" / "a.png")
    Image.fromarray(noise).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match="holds 40000 instances; expected a drawn mask"):
        read_dataset(tmp_path)


def test_a_dicom_element_of_half_a_number_is_refused(tmp_path):
    """pydicom's BytesLengthException descends from Exception alone."""
    content = TARGETS["dicom"].seeds["b.dcm"]
    place = content.index(b"\x28\x00\x10\x00US\x02\x00")  # Rows
    spoilt = content[: place + 6] + b"\x03\x00" + content[place + 8 : place + 10] + b"\0" + content[place + 10 :]
    refused(tmp_path, "dicom", "b.dcm", spoilt, r"b\.dcm: Rows \(DICOM\): expected numbers")
    with pytest.raises(InputError, match=r"Rows \(DICOM\): expected numbers"):
        decode_image(spoilt)


def test_a_picture_that_would_start_another_program_is_refused(tmp_path):
    """Pillow matches PostScript under any name, and has Ghostscript draw it."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 12\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="expected a readable PNG"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm"])
def test_an_empty_file_is_called_empty(tmp_path, suffix):
    (tmp_path / f"a{suffix}").touch()
    with pytest.raises(InputError, match=rf"a{suffix}: is empty \(0 bytes\)"):
        read_header(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("name", ["endless_pages.tif", "no_plane.tif", "no_plane_mask.tif"])
def test_files_that_fuzzing_found(tmp_path, name):
    """One whose pages took minutes to list, two that were decoded to arrays without two sides."""
    content = (Path(__file__).parent / "damaged" / name).read_bytes()
    refused(tmp_path, "image", name, content, name)


def test_what_is_called_json_and_is_no_file_is_passed_over(tmp_path):
    target = TARGETS["coco"]
    for name, content in (target.surroundings | target.seeds).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "annotations.json").rename(tmp_path / "mine.json")
    assert len(read_dataset(tmp_path)) == 2
