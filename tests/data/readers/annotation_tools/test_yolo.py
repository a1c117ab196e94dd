"""The YOLO reader on the layouts of Ultralytics, Roboflow, CVAT and Label Studio."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SQUARE = "0.033333333 0.075 0.116666667 0.075 0.116666667 0.15 0.033333333 0.15"
"""Corners of the pixels of columns 2 … 6 and rows 3 … 5 of 60×40."""
NAMES = "names:\n  0: cyst\n  1: nodule\n"


@pytest.fixture
def write(tmp_path, save_images):
    """Writes images and labels {image: text of its label or None} and a YAML file."""

    def write(images, yaml=NAMES, name="data.yaml"):
        for image, text in images.items():
            path = tmp_path / image
            save_images(path.parent, path.name)
            if text is not None:
                parts = list(path.with_suffix(".txt").parts)
                if "images" in parts:
                    parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
                label = type(path)(*parts)
                label.parent.mkdir(parents=True, exist_ok=True)
                label.write_text(text)
        (tmp_path / name).write_text(yaml)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("places", "yaml"),
    [
        (("images/train/a.png", "images/val/b.png"), "path: /x/set\ntrain: images/train\nval: images/val\n" + NAMES),
        (("train/images/a.png", "valid/images/b.png"), "train: ../train/images\nval: ../valid/images\n" + NAMES),
        (("train/images/a.PNG", "valid/images/b.png"), "nc: 2\nnames: ['cyst', 'nodule']\n"),
        (("set/images/train/a.png", "set/images/val/b.png"), "train: C:\\data\\set\\images\\train\nval: x\n" + NAMES),
    ],
)  # fmt: skip
def test_layouts_of_splits(write, places, yaml):
    folder = write({places[0]: f"1 {SQUARE}\n0 0.5 0.5 0.1 0.1\r\n", places[1]: ""}, yaml)
    dataset = read_dataset(folder)
    first, second = dataset.records
    assert dataset.class_names == ("cyst", "nodule")
    assert (first.split, second.split) == ("train", "val")
    assert (first.file_name, first.class_ids.tolist(), second.class_ids.tolist()) == (places[0], [2, 1], [])
    assert first.boxes.tolist() == [[2, 3, 7, 6], [27, 18, 33, 22]]
    assert first.areas.tolist() == [15, 24]
    assert any("annotations are boxes without an outline" in warning for warning in dataset.warnings)


def test_an_outline_is_what_pycocotools_makes_of_it(write):
    shares = np.array([0.11, 0.2, 0.83, 0.31, 0.6, 0.91, 0.3, 0.55])
    folder = write({"images/a.png": "0 " + " ".join(map(str, shares))})
    polygon = (shares.reshape(-1, 2) * [60, 40]).ravel().tolist()
    expected = coco_mask.decode(coco_mask.frPyObjects([polygon], 40, 60))[..., 0]
    np.testing.assert_array_equal(read_dataset(folder)[0].masks[0], expected)


def test_classes_of_label_studio_and_labels_beside_images(write):
    folder = write({"obj/a.png": f"0 {SQUARE}", "obj/b.png": None, "runs/figure.png": None}, "cyst\n", "classes.txt")
    dataset = read_dataset(folder)
    assert dataset.class_names == ("cyst",)
    assert [record.file_name for record in dataset.records] == ["obj/a.png", "obj/b.png"]
    text = "\n".join(dataset.warnings)
    assert "images have no label file and count as images without instances: obj/b.png" in text
    assert "pictures lie outside images, have no label and are passed over: runs/figure.png" in text


def test_splits_of_lists(write):
    folder = write({"images/a.png": "", "images/b.png": f"0 {SQUARE}"}, "train: train.txt\nval: val.txt\n" + NAMES)
    (folder / "train.txt").write_text("data/images/b.png\n")
    (folder / "val.txt").write_text("./images/a.png\n")
    assert [record.split for record in read_dataset(folder).records] == ["val", "train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"2 {SQUARE}", r"labels/a\.txt, line 1: class 2; expected a number from 0 to 1"),
        (f"\n1.5 {SQUARE}", r"labels/a\.txt, line 2: class 1\.5; expected a number"),
        ("0 20 30 70 30 70 60", r"coordinate 20; expected shares of the image from 0 to 1"),
        ("0 0.1 0.1 0.2 0.2", None),
        ("0 0.1 0.1 0.2 0.2 0.93", "has 5 coordinates; expected a box of 4, or an outline"),
        ("0 0.1 nan 0.2 0.2", "coordinate 'nan'; expected a finite number"),
        ("0 0.1 0.1 0 0.2", "box without an extent"),
        ("0", "has 0 coordinates"),
    ],
)
def test_damaged_lines_are_named(write, text, message):
    folder = write({"images/a.png": text, "images/b.png": ""})
    if message is None:
        assert read_dataset(folder).records[0].areas.tolist() == [6 * 4 * 4]
        return
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    skipped = read_dataset(folder, on_error="skip")
    assert [record.file_name for record in skipped.records] == ["images/b.png"] and len(skipped.skipped) == 1


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("nc: 3\n" + NAMES, "nc '3' and 2 names; expected the same number"),
        ("names: {0: cyst, 2: nodule}", r"^.*names: |names has the numbers"),
        ("kpt_shape: [5, 3]\n" + NAMES, "kpt_shape is set, so labels are key points"),
        ("names: [cyst, cyst]", "two classes have one name"),
        ("names: [cyst\n", "not a YAML file"),
        ("names: cyst", "names 'cyst'; expected a list of classes"),
    ],
)
def test_damaged_descriptions_are_named(write, yaml, message):
    with pytest.raises(InputError, match=message):
        read_dataset(write({"images/a.png": ""}, yaml), "yolo")


def test_labels_without_image_and_images_of_one_name(write, save_images):
    folder = write({"images/a.png": "", "images/b.png": ""})
    (folder / "images" / "b.png").unlink()
    with pytest.raises(InputError, match=r"labels/b\.txt: no image of that name"):
        read_dataset(folder)
    save_images(folder / "images", "b.png", "b.bmp")
    with pytest.raises(InputError, match=r"labels/b\.txt: 2 images of that name; expected one"):
        read_dataset(folder)


def test_other_encodings(write):
    folder = write({"images/a.png": ""})
    (folder / "labels" / "a.txt").write_bytes(f"0 {SQUARE}".encode("utf-16"))
    assert read_dataset(folder).records[0].areas.tolist() == [15]
    (folder / "labels" / "a.txt").write_bytes(b"0 \xe9")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_dataset(folder)
