"""Stored values of label images, whatever a viewer would show; each is made from an array that is then compared."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from mrcnn.data.io.label_images import read_label_image
from mrcnn.errors import InputError

SHAPE = 24, 40
BLOCK = np.zeros(SHAPE, bool)
BLOCK[3:9, 5:13] = True
CODES = np.zeros(SHAPE, np.uint8)
CODES[3:9, 5:13], CODES[12:20, 20:30], CODES[1:3, 30:39] = 1, 2, 3
WHITE_FIRST = [255, 255, 255, 0, 0, 0, 90, 90, 90, 200, 200, 200]


def palette(values):
    image = Image.fromarray(values, mode="P")
    image.putpalette(WHITE_FIRST)
    return image


@pytest.mark.parametrize("values", [BLOCK, BLOCK.astype(np.uint8) * 255, CODES.astype(np.uint16) * 300,
                                    CODES.astype(np.uint32), CODES.astype(np.int8), CODES.astype(np.int16),
                                    CODES.astype(np.float64), CODES.astype(np.uint64)],
                         ids=lambda values: values.dtype.name)  # fmt: skip
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_tiff_values_do_not_depend_on_what_is_white(tmp_path, values, photometric):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif").values, values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "group4", None])
@pytest.mark.parametrize("bilevel", [True, False])
def test_compressed_tiff(tmp_path, compression, bilevel):
    if compression == "group4" and not bilevel:
        pytest.skip("fax codes hold one bit")
    values = BLOCK if bilevel else BLOCK.astype(np.uint8) * 255
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif").values > 0, BLOCK)


def test_imagej_inverting_table(tmp_path):
    """ImageJ stores binary objects as 255 and shows them black, by photometric interpretation 0."""
    tifffile.imwrite(tmp_path / "a.tif", BLOCK.astype(np.uint8) * 255, photometric="miniswhite", metadata=None,
                     description="ImageJ=1.54f\nmin=0.0\nmax=255.0\n")  # fmt: skip
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif").values, BLOCK * 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif"])
def test_palettes_give_indices(tmp_path, name):
    palette(CODES).save(tmp_path / name)
    np.testing.assert_array_equal(read_label_image(tmp_path / name).values, CODES)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits(tmp_path, bits):
    values = CODES % (1 << bits)
    palette(values).save(tmp_path / "a.png", bits=bits)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.png").values, values)


def gray_png(path, values, bits):
    """A PNG of gray with 2 or 4 bits, which Pillow does not write: a palette's, with another color type."""
    import struct
    import zlib

    rows = [np.unpackbits(row[:, None], axis=1)[:, -bits:].ravel() for row in values]
    data = zlib.compress(b"".join(b"\0" + np.packbits(row).tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@pytest.mark.parametrize("bits", [2, 4])
def test_gray_of_few_bits_is_not_scaled(tmp_path, bits):
    gray_png(tmp_path / "a.png", CODES, bits)
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.png").values, CODES)
    tifffile.imwrite(tmp_path / "a.tif", CODES, photometric="miniswhite")
    np.testing.assert_array_equal(read_label_image(tmp_path / "a.tif").values, CODES)


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.png", "a.tif"])
@pytest.mark.parametrize("values", [BLOCK, BLOCK.astype(np.uint8) * 255], ids=["bits", "bytes"])
def test_two_values_in_every_format(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_array_equal(read_label_image(tmp_path / name).values > 0, BLOCK)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("color", ["black", "white", "red"])
def test_a_mask_in_the_alpha_channel(tmp_path, mode, color):
    image = Image.new("RGB", SHAPE[::-1], color).convert(mode)
    image.putalpha(Image.fromarray(BLOCK.astype(np.uint8) * 255))
    image.save(tmp_path / "a.png")
    labels = read_label_image(tmp_path / "a.png")
    assert labels.from_alpha
    np.testing.assert_array_equal(labels.values > 0, BLOCK)


@pytest.mark.parametrize("alpha", [np.zeros(SHAPE), np.full(SHAPE, 255), np.full(SHAPE, 100), BLOCK * 255])
def test_an_alpha_channel_that_says_nothing_else(tmp_path, alpha):
    image = Image.fromarray(BLOCK.astype(np.uint8) * 200).convert("RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    image.save(tmp_path / "a.png")
    labels = read_label_image(tmp_path / "a.png")
    assert not labels.from_alpha
    np.testing.assert_array_equal(labels.values, BLOCK * 200)


@pytest.mark.parametrize("alpha", [~BLOCK * 255, np.where(CODES == 2, 255, 0)])
def test_an_alpha_channel_that_contradicts_the_values(tmp_path, alpha):
    image = Image.fromarray(BLOCK.astype(np.uint8) * 200).convert("RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    image.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: its alpha channel and its values contradict"):
        read_label_image(tmp_path / "a.png")


def test_colors_are_named(tmp_path):
    Image.fromarray(np.where(BLOCK[..., None], np.uint8([128, 0, 0]), 0).astype(np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png.*colors \[0, 0, 0\], \[128, 0, 0\]; expected one value a pixel"):
        read_label_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.tif"])
def test_jpeg_under_any_name(tmp_path, name):
    file, kind = io.BytesIO(), {"format": "TIFF", "compression": "jpeg"} if name == "a.tif" else {"format": "JPEG"}
    Image.fromarray(BLOCK.astype(np.uint8) * 255).save(file, **kind)
    (tmp_path / name).write_bytes(file.getvalue())
    with pytest.raises(InputError, match=f"{name}: JPEG changes the values of a mask; expected PNG, TIFF"):
        read_label_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.gif"])
def test_several_pages_or_frames(tmp_path, name):
    pages = [Image.fromarray(np.roll(CODES, step)) for step in range(3)]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="3 pages or frames; expected a single mask"):
        read_label_image(tmp_path / name)


def test_negative_values_of_signed_bytes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.where(BLOCK, -1, 0).astype(np.int8))
    with pytest.raises(InputError, match=r"a\.tif: holds -1; expected numbers from 0"):
        read_label_image(tmp_path / "a.tif")
