"""Pictures that EXIF turns: annotations lie where the annotator saw them. Pillow's own turning is the reference."""

import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from mrcnn.data import read_dataset
from mrcnn.data.io.image_bytes import decode_image
from mrcnn.data.io.images import read_header, read_image
from mrcnn.errors import InputError

TURNING = range(2, 9)
ORIENTATION = 0x0112
SHAPE = 24, 40
BACKWARD = {6: 8, 8: 6}
"""Orientations that another one undoes; each of the others undoes itself."""


def shown():
    """A picture as a viewer shows it, dark but for a bright block of 6×8 pixels near one corner, and that block."""
    block = np.zeros(SHAPE, bool)
    block[3:9, 5:13] = True
    return np.where(block, 200, 40).astype(np.uint8), block


def stored_as(pixels, orientation):
    """Pixels that a file of this orientation must store to be shown as the given ones."""
    exif = Image.Exif()
    exif[ORIENTATION] = BACKWARD.get(orientation, orientation)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return np.array(ImageOps.exif_transpose(Image.open(file)))


def write(path, pixels, orientation):
    """Writes a file that is shown as `pixels`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = stored_as(pixels, orientation)
    if path.suffix == ".tif":
        return tifffile.imwrite(path, stored, extratags=[(ORIENTATION, 3, 1, orientation, True)])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(stored).save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


def assert_mask_on_block(dataset, index=0):
    """The mask lies on what is bright, in the picture as it is read."""
    sample = dataset[index]
    np.testing.assert_array_equal(sample.masks.any(axis=0), sample.image[..., 0] > 120)
    np.testing.assert_array_equal(sample.masks.any(axis=0), shown()[1])


@pytest.mark.parametrize("orientation", TURNING)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "deep.tif"])
def test_a_picture_is_read_as_it_is_shown(tmp_path, name, orientation):
    pixels, _ = shown()
    if name == "deep.tif":
        pixels = np.stack([pixels.astype(np.uint16) * 256] * 3, axis=-1)
        stored = np.stack([stored_as(shown()[0], orientation).astype(np.uint16) * 256] * 3, axis=-1)
        tifffile.imwrite(tmp_path / name, stored, photometric="rgb", extratags=[(ORIENTATION, 3, 1, orientation, True)])
    else:
        write(tmp_path / name, pixels, orientation)
    image, header = read_image(tmp_path / name), read_header(tmp_path / name)
    assert image.shape[:2] == (header.height, header.width) == SHAPE
    assert header.orientation == orientation
    assert np.abs(image.squeeze().astype(int) - pixels).max() < 30  # JPEG
    np.testing.assert_array_equal(decode_image((tmp_path / name).read_bytes())[0], image)


@pytest.mark.parametrize("form", ["yolo", "labelme", "labelme as stored", "labelme of another size"])
def test_annotation_tools_see_pictures_turned_or_as_stored(tmp_path, form):
    """The block of 6×8 pixels, in the picture as shown, or in the stored one, which is a quarter turn of it."""
    pixels, block = shown()
    write(tmp_path / "images" / "a.png", pixels, 6)
    seen = stored_as(block.astype(np.uint8), 6) if "stored" in form else block
    (y1, *_, y2), (x1, *_, x2) = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    corners = np.array([[x1, y1], [x2 + 1, y1], [x2 + 1, y2 + 1], [x1, y2 + 1]])
    height, width = seen.shape
    if form == "yolo":
        (tmp_path / "data.yaml").write_text("names: [block]\n")
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("0 " + " ".join(map(str, (corners / [width, height]).ravel())))
    else:
        content = {"imagePath": "images/a.png", "imageData": None, "imageHeight": height, "imageWidth": width + 1}
        content["imageWidth"] -= "another" not in form
        content["shapes"] = [{"label": "block", "points": corners.tolist(), "shape_type": "polygon"}]
        (tmp_path / "a.json").write_text(json.dumps(content))
    if "another" in form:
        with pytest.raises(InputError, match="has 40×24 pixels; expected 41×24"):
            read_dataset(tmp_path)
    else:
        assert_mask_on_block(read_dataset(tmp_path))


@pytest.mark.parametrize("exif", [b"Exif\0\0damaged", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_turns_nothing(tmp_path, exif):
    Image.fromarray(shown()[0]).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape[:2] == SHAPE


@pytest.mark.parametrize("orientation", TURNING)
def test_via_regions_lie_on_the_picture_that_the_browser_showed(tmp_path, orientation):
    write(tmp_path / "a.jpg", shown()[0], orientation)
    rect = {"name": "rect", "x": 5, "y": 3, "width": 8, "height": 6}
    entry = {"filename": "a.jpg", "regions": [{"shape_attributes": rect, "region_attributes": {"type": "x"}}]}
    (tmp_path / "via_region_data.json").write_text(json.dumps({"a": entry}))
    dataset = read_dataset(tmp_path)
    assert_mask_on_block(dataset)
    assert any("images have an EXIF orientation" in each and "a.jpg" in each for each in dataset.warnings)


def test_via_regions_beyond_the_turned_picture_are_refused(tmp_path):
    write(tmp_path / "a.jpg", shown()[0].T, 6)  # shown 24 wide, stored 40 wide
    rect = {"name": "rect", "x": 20, "y": 3, "width": 15, "height": 6}
    entry = {"filename": "a.jpg", "regions": [{"shape_attributes": rect, "region_attributes": {"type": "x"}}]}
    (tmp_path / "via_region_data.json").write_text(json.dumps({"a": entry}))
    with pytest.raises(InputError, match=r"a\.jpg, region 0: .*EXIF orientation.*save the pictures upright"):
        read_dataset(tmp_path)


def write_coco(folder, sizes, blocks, form):
    """A COCO set of images 0.jpg, 1.jpg, … with a mask each, as polygon or run lengths."""
    annotations = []
    for key, block in enumerate(blocks):
        rows, columns = (np.flatnonzero(block.any(axis=axis)) for axis in (1, 0))
        x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        outline = [[int(each) for each in (x1, y1, x2, y1, x2, y2, x1, y2)]]
        run = coco_mask.encode(np.asfortranarray(block.astype(np.uint8)))
        runs = {"size": list(sizes[key]), "counts": run["counts"].decode()}
        drawn = {"polygon": outline, "runs": runs}[form]
        annotations.append({"id": key, "image_id": key, "category_id": 1, "segmentation": drawn})
    images = [{"id": key, "file_name": f"{key}.jpg", "height": h, "width": w} for key, (h, w) in enumerate(sizes)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


@pytest.mark.parametrize("form", ["polygon", "runs"])
@pytest.mark.parametrize("orientation", TURNING)
def test_coco_masks_on_the_shown_picture(tmp_path, orientation, form):
    write(tmp_path / "0.jpg", shown()[0], orientation)
    write_coco(tmp_path, [SHAPE], [shown()[1]], form)
    dataset = read_dataset(tmp_path)
    assert_mask_on_block(dataset)
    told = any("EXIF" in each for each in dataset.warnings)
    assert told == (orientation < 5)  # otherwise the sizes leave no doubt


@pytest.mark.parametrize("form", ["polygon", "runs"])
@pytest.mark.parametrize("orientation", range(5, 9))
def test_coco_masks_on_the_stored_picture(tmp_path, orientation, form):
    """A second image, of orientation 3, whose size tells nothing, follows the first."""
    for name, each in (("0.jpg", orientation), ("1.jpg", 3)):
        write(tmp_path / name, shown()[0], each)
    blocks = [stored_as(shown()[1].astype(np.uint8), each) > 0 for each in (orientation, 3)]
    write_coco(tmp_path, [block.shape for block in blocks], blocks, form)
    dataset = read_dataset(tmp_path)
    assert_mask_on_block(dataset, 0)
    assert_mask_on_block(dataset, 1)
    assert [each for each in dataset.warnings if "EXIF" in each and "as stored" in each and each.count(".jpg") == 1]


def test_coco_sizes_that_contradict_each_other(tmp_path):
    for name, each in (("0.jpg", 6), ("1.jpg", 6), ("2.jpg", 3)):
        write(tmp_path / name, shown()[0], each)
    block = shown()[1]
    write_coco(tmp_path, [SHAPE, SHAPE[::-1], SHAPE], [block, stored_as(block.astype(np.uint8), 6) > 0, block], "runs")
    with pytest.raises(InputError, match=r"2\.jpg: EXIF orientation 3.*save the pictures upright"):
        read_dataset(tmp_path)
    dataset = read_dataset(tmp_path, on_error="skip")
    assert len(dataset) == 2
    assert_mask_on_block(dataset, 0)
    assert_mask_on_block(dataset, 1)


def write_mask(path, block, orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if orientation:
        return write(path, block.astype(np.uint8) * 255, orientation)
    Image.fromarray(block).save(path)


@pytest.mark.parametrize("orientation", TURNING)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_mask_with_the_orientation_of_its_picture(tmp_path, orientation, suffix):
    write(tmp_path / "images" / "a.jpg", shown()[0], orientation)
    write_mask(tmp_path / "masks" / f"a.{suffix}", shown()[1], orientation)
    assert_mask_on_block(read_dataset(tmp_path))


@pytest.mark.parametrize("orientation", range(5, 9))
@pytest.mark.parametrize("drawn_on", ["shown", "stored"])
def test_the_size_of_a_mask_tells_what_it_was_drawn_on(tmp_path, orientation, drawn_on):
    write(tmp_path / "images" / "a.jpg", shown()[0], orientation)
    block = shown()[1]
    write_mask(
        tmp_path / "masks" / "a.png",
        block if drawn_on == "shown" else stored_as(block.astype(np.uint8), orientation) > 0,
    )
    assert_mask_on_block(read_dataset(tmp_path))


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_mask_that_could_be_drawn_on_either(tmp_path, orientation):
    write(tmp_path / "images" / "a.jpg", shown()[0], orientation)
    write_mask(tmp_path / "masks" / "a.png", shown()[1])
    with pytest.raises(InputError, match=r"masks/a\.png: its image has EXIF orientation.*save the pictures upright"):
        read_dataset(tmp_path)
    write_mask(tmp_path / "masks" / "a.png", np.zeros(SHAPE, bool))  # the same either way
    assert len(read_dataset(tmp_path)) == 1
