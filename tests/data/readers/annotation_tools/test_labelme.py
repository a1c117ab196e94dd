"""The LabelMe reader; masks are encoded as LabelMe does, PNG in base64."""

import base64
import io
import json
import math

import numpy as np
import pytest
from PIL import Image
from skimage.draw import disk

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SIZE = 40, 60
SQUARE = {"label": "cyst", "points": [[2, 3], [7, 3], [7, 6], [2, 6]], "shape_type": "polygon", "group_id": None}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def write(tmp_path, save_images):
    """Writes a JSON file of shapes, and the image beside it unless it has `imageData`."""

    def write(name, *shapes, folder=".", **fields):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.png"}
        content |= {"imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]} | fields
        (tmp_path / folder / f"{name}.json").write_text(json.dumps(content))
        if not content["imageData"]:
            save_images(tmp_path / folder, f"{name}.png")
        return tmp_path

    return write


def test_shapes(write):
    mask = np.random.default_rng(1).random((6, 9)) > 0.4
    mask[0, 0] = mask[-1, -1] = True
    folder = write(
        "a",
        SQUARE,
        {"label": "nodule", "points": [[20, 9], [12, 3]], "shape_type": "rectangle"},
        {"label": "nodule", "points": [[30, 20], [30, 29]], "shape_type": "circle"},
        {"label": "cyst", "points": [[40, 10], [48, 15]], "shape_type": "mask", "mask": png(mask.astype(np.uint8))},
    )
    write("b")
    first, second = read_dataset(folder)
    assert read_dataset(folder).class_names == ("cyst", "nodule")
    assert first.class_ids.tolist() == [1, 2, 2, 1] and second.class_ids.tolist() == []
    assert first.masks[0].sum() == 15 and first.masks[0, 3:6, 2:7].all()
    assert first.masks[1].sum() == 48 and first.masks[1, 3:9, 12:20].all()
    circle = np.zeros(SIZE, bool)
    circle[disk((19.5, 29.5), 9, shape=SIZE)] = True
    assert (first.masks[2] ^ circle).sum() < 0.1 * circle.sum()
    expected = np.zeros(SIZE, bool)
    expected[10:16, 40:49] = mask
    np.testing.assert_array_equal(first.masks[3], expected)


def test_shapes_of_a_group_are_one_instance(write):
    other = SQUARE | {"points": [[20, 20], [30, 20], [30, 30], [20, 30]]}
    folder = write("a", SQUARE | {"group_id": 1}, other | {"group_id": 1}, other | {"group_id": 1, "label": "nodule"})
    assert read_dataset(folder).records[0].areas.tolist() == [115, 100]


def test_an_image_inside_its_file(write, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    pixels = np.random.default_rng(2).integers(0, 256, (*SIZE, 3), np.uint8)
    folder = write("a", SQUARE, folder="set", imageData=png(pixels), imagePath="C:\\patients\\a.jpg") / "set"
    (sample,) = read_dataset(folder)
    assert sample.source == "a.png" and sample.masks.sum() == 15
    np.testing.assert_array_equal(sample.image, pixels)
    write("a", SQUARE, folder="set", imageData="bm90aGluZw==", imagePath="a.jpg")
    with pytest.raises(InputError, match=r"a\.json: imageData is not a readable image"):
        read_dataset(folder)


@pytest.mark.parametrize("path", ["..\\images\\a.PNG", "/data/of/another/machine/a.png", "a%20b.png"])
def test_paths_of_other_machines(write, save_images, path):
    folder = write("a", SQUARE, folder="labels", imagePath=path)
    (folder / "labels" / "a.png").unlink()
    save_images(folder / "images", "a b.png" if "%" in path else "a.png")
    assert read_dataset(folder).records[0].areas.tolist() == [15]


def test_a_picture_without_a_file_is_not_annotated(write, save_images):
    folder = write("a", SQUARE)
    save_images(folder, "b.png")
    dataset = read_dataset(folder)
    assert len(dataset) == 1
    assert any("images have no JSON file and are left out" in each and "b.png" in each for each in dataset.warnings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_type": "point", "points": [[3, 3]]}, r"a\.json, shape 0: has shape_type 'point' without an area"),
        ({"points": [[3, 3], [4, 4]]}, "has a polygon with 2 points"),
        ({"points": [[3, 3], [4, 4], ["x", 5]]}, "has the coordinate 'x'; expected a finite number"),
        ({"points": [[90, 90], [95, 90], [95, 95]]}, "lies outside its image of 60×40"),
        ({"points": {}}, r"points that are not a list of \[x, y\]"),
        ({"label": None}, "class None; expected a text"),
        ({"shape_type": "mask", "points": [[2, 2], [5, 5]], "mask": "!"}, "has a mask that is not a readable PNG"),
        ({"shape_type": "mask", "points": [[2, 2], [5, 5]], "mask": png(np.eye(3, dtype=np.uint8))}, "expected 4×4 as"),
        ({"shape_type": "mask", "points": [[58, 2], [61, 5]], "mask": png(np.eye(4, dtype=np.uint8))}, "outside its"),
        ({"shape_type": "circle", "points": [[2, 2], [2, 2]]}, "has the radii 0 and 0"),
    ],
)
def test_damaged_shapes_are_named(write, change, message):
    folder = write("a", SQUARE | change)
    write("b", SQUARE)
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert len(read_dataset(folder, on_error="skip")) == 1


def test_damaged_files_are_named(write):
    folder = write("a", SQUARE, imageWidth=61)
    with pytest.raises(InputError, match=r"a\.json: a\.png has 60×40 pixels; expected 61×40"):
        read_dataset(folder)
    write("a", SQUARE)
    write("c", SQUARE, imagePath="a.png")
    with pytest.raises(InputError, match=r"a\.png stands in 2 entries \(a\.json, c\.json\); expected one"):
        read_dataset(folder)
    (folder / "c.json").write_text(json.dumps({"shapes": [], "imagePath": "c.png"})[:-5])
    with pytest.raises(InputError, match=r"c\.json: not a JSON file"):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["a.png"]
    (folder / "c.json").write_text(json.dumps({"shapes": [SQUARE], "imagePath": "c.png"}))
    (folder / "c.png").unlink()
    with pytest.raises(InputError, match=r"c\.json: 'c\.png' is neither in"):
        read_dataset(folder)


def test_a_circle_of_any_direction(write):
    edge = [30 + 9 * math.cos(2), 20 + 9 * math.sin(2)]
    circle = {"label": "x", "shape_type": "circle", "points": [[30, 20], edge]}
    assert read_dataset(write("a", circle)).records[0].boxes.tolist() == [[21, 11, 39, 29]]
