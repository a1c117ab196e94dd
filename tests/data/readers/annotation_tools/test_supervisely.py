"""The Supervisely reader; bitmaps are encoded as Supervisely does, a compressed PNG in base64."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SIZE = 40, 60


def bitmap(mask, origin, compress=True):
    image = Image.fromarray(mask.astype(np.uint8) * 255).convert("P")
    image.putdata(mask.ravel().astype(int).tolist())
    image.putpalette([0, 0, 0, 255, 255, 255])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0, optimize=0)
    data = zlib.compress(file.getvalue()) if compress else file.getvalue()
    return {
        "classTitle": "cyst", "geometryType": "bitmap", "tags": [],
        "bitmap": {"data": base64.b64encode(data).decode(), "origin": list(origin)},
    }  # fmt: skip


def outline(exterior, interior=(), kind="polygon", title="nodule"):
    points = {
        "exterior": [list(point) for point in exterior],
        "interior": [[list(p) for p in hole] for hole in interior],
    }
    return {"classTitle": title, "geometryType": kind, "points": points, "tags": []}


@pytest.fixture
def write(tmp_path, save_images):
    """Writes a project of two data sets with an image each; the first has the objects."""

    def write(*objects, **fields):
        classes = [{"title": "cyst", "shape": "bitmap"}, {"title": "nodule", "shape": "polygon"}]
        (tmp_path / "meta.json").write_text(json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
        for name, drawn in (("train", objects), ("val", ())):
            save_images(tmp_path / name / "img", f"{name}.PNG")
            (tmp_path / name / "ann").mkdir(exist_ok=True)
            size = {"height": SIZE[0], "width": SIZE[1]}
            content = {"description": "", "tags": [], "size": size, "objects": list(drawn)} | fields
            (tmp_path / name / "ann" / f"{name}.PNG.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_shapes(write):
    mask = np.random.default_rng(1).random((6, 9)) > 0.4
    exterior, hole = [(2, 3), (22, 3), (22, 23), (2, 23)], [(8, 8), (12, 8), (12, 12), (8, 12)]
    folder = write(
        bitmap(mask, (40, 10)),
        bitmap(mask, (1, 2), compress=False),
        outline(exterior, [hole]),
        outline([(30, 5), (39, 8)], kind="rectangle"),
        tags=[{"name": "patient_id", "value": "P4"}],
    )
    dataset = read_dataset(folder)
    first, second = dataset
    assert dataset.class_names == ("cyst", "nodule")
    assert [record.file_name for record in dataset.records] == ["train/img/train.PNG", "val/img/val.PNG"]
    assert [record.split for record in dataset.records] == ["train", "val"]
    assert first.patient_id == "P4" and second.class_ids.tolist() == []
    for index, (top, left) in enumerate(((10, 40), (2, 1))):
        expected = np.zeros(SIZE, bool)
        expected[top : top + 6, left : left + 9] = mask
        np.testing.assert_array_equal(first.masks[index], expected)
    # Pixels of the corners belong to an outline, and to a hole.
    assert first.masks[2].sum() == 21 * 21 - 5 * 5 and not first.masks[2, 8:13, 8:13].any()
    assert first.masks[3].sum() == 10 * 4 and first.masks[3, 5:9, 30:40].all()


def test_an_outline_covers_its_border(write):
    corners = [(5, 4), (31, 9), (24, 33), (9, 28)]
    mask = read_dataset(write(outline(corners)))[0].masks[0]
    inside = polygon2mask(SIZE, [(y, x) for x, y in corners])
    assert not (inside & ~mask).any() and all(mask[y, x] for x, y in corners)
    assert 0 < (mask & ~inside).sum() < 110  # pixels of its outline


def test_names_without_suffix_and_projects_in_a_folder(write, tmp_path):
    folder = write(outline([(2, 3), (6, 5)], kind="rectangle"))
    (folder / "train" / "ann" / "train.PNG.json").rename(folder / "train" / "ann" / "train.json")
    outer = tmp_path.parent / f"{tmp_path.name}-outer"
    outer.mkdir()
    folder.rename(outer / "project")
    assert [record.areas.tolist() for record in read_dataset(outer).records] == [[15], []]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            outline([(2, 3), (6, 5), (6, 3)], title="wall"),
            r"train/ann/train\.PNG\.json, object 0: class 'wall'; expected",
        ),
        (outline([(2, 3), (6, 5)], kind="cuboid"), "has geometryType 'cuboid'; expected bitmap, polygon or rectangle"),
        (outline([(2, 3), (6, 5)]), "outline with 2 points"),
        (outline([(2, 3), (6, 5), (6, "x")]), "has the coordinate 'x'"),
        (outline([(2, 3), (6, 5), (600, 3)]), "has the coordinate 600, far outside"),
        (outline([(70, 3), (80, 5), (80, 3)]), "covers no pixel of its image"),
        (bitmap(np.ones((6, 9), bool), (55, 10)), "outside its image of 60×40"),
        (bitmap(np.ones((6, 9), bool), (5,)), "bitmap without origin"),
        ({"classTitle": "cyst", "geometryType": "bitmap", "bitmap": {"data": "eJw=", "origin": [1, 1]}}, "cut short"),
        (
            {"classTitle": "cyst", "geometryType": "bitmap", "bitmap": {"data": "AAAA", "origin": [1, 1]}},
            "decompressed",
        ),
        (7, "object 0: expected an object with classTitle"),
    ],
)
def test_damaged_objects_are_named(write, wrong, message):
    folder = write(wrong)
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["val/img/val.PNG"]


def test_damaged_files_are_named(write, tmp_path):
    with pytest.raises(InputError, match="has 60×40 pixels; expected 60×41"):
        read_dataset(write(size={"height": 41, "width": 60}))
    with pytest.raises(InputError, match=r"size \{\}; expected height and width"):
        read_dataset(write(size={}))
    file = write() / "train" / "ann" / "train.PNG.json"
    file.write_text(file.read_text()[:-1])
    with pytest.raises(InputError, match=r"train\.PNG\.json: not a JSON file"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, on_error="skip")) == 1
    (write() / "train" / "img" / "train.PNG").unlink()
    with pytest.raises(InputError, match=r"'train\.PNG' is neither in"):
        read_dataset(tmp_path)
    (tmp_path / "meta.json").write_text('{"classes": [{"shape": "polygon"}]}')
    with pytest.raises(InputError, match=r"meta\.json: classes .*; expected a list of objects with title"):
        read_dataset(tmp_path)
