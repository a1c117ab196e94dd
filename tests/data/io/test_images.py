"""What is written with Pillow, tifffile or by hand comes back as it was."""

import os
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import ImageHeader, read_header, read_image
from mrcnn.errors import InputError

RNG = np.random.default_rng(1)
GRAY = RNG.integers(0, 256, (6, 9), np.uint8)
COLOR = RNG.integers(0, 256, (6, 9, 3), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 9), np.uint16)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
@pytest.mark.parametrize("pixels", [GRAY, COLOR], ids=["gray", "color"])
def test_bytes(tmp_path, suffix, pixels):
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}")
    image = read_image(tmp_path / f"x.{suffix}")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, pixels.reshape(6, 9, -1))
    assert read_header(tmp_path / f"x.{suffix}") == ImageHeader(6, 9)


def test_jpeg_is_close(tmp_path):
    smooth = np.tile(np.arange(0, 64, 2, dtype=np.uint8), (16, 1))
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=95)
    image = read_image(tmp_path / "x.jpg")
    assert image.shape == (16, 32, 1)
    assert np.abs(image[..., 0].astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_gray_keeps_its_units(tmp_path, suffix):
    Image.fromarray(DEEP).save(tmp_path / f"x.{suffix}")
    image = read_image(tmp_path / f"x.{suffix}")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[..., 0], DEEP)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_not_composed(tmp_path, mode):
    image = Image.fromarray(COLOR).convert(mode)
    image.putalpha(0)
    image.save(tmp_path / "x.png")
    expected = COLOR if mode == "RGBA" else np.asarray(Image.fromarray(COLOR).convert("L"))[..., None]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), expected)


def test_palette_becomes_color(tmp_path):
    image = Image.fromarray((GRAY % 3).astype(np.uint8), mode="P")
    colors = [(255, 0, 0), (0, 200, 0), (10, 20, 30)]
    image.putpalette([value for color in colors for value in color])
    image.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.array(colors, np.uint8)[GRAY % 3])


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(GRAY > 127).save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png")[..., 0], np.where(GRAY > 127, 255, 0))


@pytest.mark.parametrize("channels", [2, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_of_many_channels(tmp_path, channels, dtype):
    pixels = (RNG.random((6, 9, channels)) * 200).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack", planarconfig="contig")
    image = read_image(tmp_path / "x.tif")
    if (dtype, channels) == (np.uint8, 2):
        pixels = pixels[..., :1]  # eight-bit gray and one more is gray with alpha, to Pillow and to us
    assert image.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(image, pixels)
    assert read_header(tmp_path / "x.tif") == ImageHeader(6, 9)


def test_planar_tiff(tmp_path):
    pixels = RNG.random((5, 6, 9)).astype(np.float32)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="minisblack", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), np.moveaxis(pixels, 0, -1))


def test_sixteen_bit_color_tiff_keeps_its_units(tmp_path):
    pixels = RNG.integers(0, 65536, (6, 9, 3), np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif"), pixels)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint16, np.uint32])
def test_tiff_values_of_any_type_as_they_are_shown(tmp_path, dtype):
    """Signed bytes keep their sign, and where 0 is white the picture is inverted, as viewers do."""
    pixels = RNG.integers(np.iinfo(dtype).min, min(np.iinfo(dtype).max, 70000), (6, 9)).astype(dtype)
    tifffile.imwrite(tmp_path / "black.tif", pixels, photometric="minisblack")
    tifffile.imwrite(tmp_path / "white.tif", pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "black.tif")[..., 0], pixels.astype(np.float32))
    data = (tmp_path / "black.tif").read_bytes()
    np.testing.assert_array_equal(decode_image(data)[0][..., 0], pixels.astype(np.float32))
    if dtype == np.int8:
        with pytest.raises(InputError, match=r"white\.tif: .*0 is white.*int8; expected 0 to be black"):
            read_image(tmp_path / "white.tif")
    else:
        inverted = (np.iinfo(dtype).max - pixels.astype(np.int64)).astype(np.float32)
        np.testing.assert_array_equal(read_image(tmp_path / "white.tif")[..., 0], inverted)
        np.testing.assert_array_equal(decode_image((tmp_path / "white.tif").read_bytes())[0][..., 0], inverted)


def deep_png(path, pixels, color_type):
    """Writes a 16-bit PNG by hand: no filter on any row (PNG specification, sections 5 and 9)."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    data = chunk(b"IDAT", zlib.compress(rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))


@pytest.mark.parametrize(("color_type", "stored", "kept"), [(2, 3, 3), (6, 4, 3), (4, 2, 1)])
def test_sixteen_bit_png_of_several_channels_keeps_its_units(tmp_path, color_type, stored, kept):
    pixels = RNG.integers(0, 65536, (6, 9, stored), np.uint16)
    deep_png(tmp_path / "x.png", pixels, color_type)
    image = read_image(tmp_path / "x.png")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, pixels[..., :kept])
    whole = (tmp_path / "x.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    with pytest.raises(InputError, match=r"cut\.png: expected a readable"):
        read_image(tmp_path / "cut.png")


def test_missing_and_damaged_files(tmp_path):
    Image.fromarray(COLOR).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:120])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(InputError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(InputError, match=r"none\.tif: no such file"):
        read_header(tmp_path / "none.tif")
    for name in ("cut.png", "text.png", "text.tif"):
        with pytest.raises(InputError, match=rf"{name}: expected a readable"):
            read_image(tmp_path / name)


def test_not_finite_and_stacks_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "nan.tif", np.array([[1, np.nan]], np.float32))
    with pytest.raises(InputError, match="NaN or infinite"):
        read_image(tmp_path / "nan.tif")
    pages = [Image.fromarray(GRAY) for _ in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="3 pages"):
        read_image(tmp_path / "stack.tif")
    tifffile.imwrite(tmp_path / "deep.tif", RNG.random((4, 3, 6, 9)).astype(np.float32), photometric="minisblack")
    with pytest.raises(InputError, match="expected a single image"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".dcm", ""])
def test_what_is_no_file_is_refused_before_it_is_read(tmp_path, suffix):
    """A pipe would be read for ever."""
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"folder{suffix}").mkdir()
    for read in (read_image, read_header):
        for name in ("pipe", "folder"):
            with pytest.raises(InputError, match=rf"{name}{suffix}: is a folder, pipe or device; expected a file"):
                read(tmp_path / f"{name}{suffix}")
