"""COCO data sets of several files, numbers in several types, and files that belong to the system."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mrcnn.data import read_dataset, split_by_patient
from mrcnn.errors import InputError

FAULTS = Path(__file__).parents[4] / "shared" / "faults"
SQUARE = [[2, 3, 7, 3, 7, 6, 2, 6]]


def image(path, height=12, width=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, str(path)))
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)).save(path)


def content(names, categories=((0, "set", "none"), (1, "benign", "set"), (2, "malignant", "set")), kinds=(1, 2)):
    """A COCO object as Roboflow writes it, with an instance on each image, of `kinds` by turns."""
    return {
        "categories": [dict(zip(("id", "name", "supercategory"), each, strict=True)) for each in categories],
        "images": [{"id": i, "file_name": name, "height": 12, "width": 20} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": kinds[i % len(kinds)], "segmentation": SQUARE}
            for i in range(len(names))
        ],
    }


def roboflow(folder, counts=(("train", 4), ("valid", 2), ("test", 2)), **more):
    number = 0
    for split, count in counts:
        names = [f"scan{number + i}_png.rf.{number + i:032x}.jpg" for i in range(count)]
        for name in names:
            image(folder / split / name)
        (folder / split / "_annotations.coco.json").write_text(json.dumps(content(names, **more)))
        number += count
    return folder


def test_roboflow_is_pooled(tmp_path):
    dataset = read_dataset(roboflow(tmp_path))
    assert dataset.class_names == ("benign", "malignant")  # and not the project, which marks nothing
    assert len(dataset) == 8 and [record.class_ids.tolist() for record in dataset.records] == [[1], [2]] * 4
    assert dataset.records[0].file_name == f"test/scan6_png.rf.{6:032x}.jpg"
    assert dataset.records[0].patient_id == "scan6_png"
    assert "pooled" in dataset.warnings[0] and "split again by patient" in dataset.warnings[0]
    for name in ("test", "train", "valid"):
        assert name in dataset.warnings[0]
    assert len(read_dataset(tmp_path / "train")) == 4


def test_a_file_for_each_image(tmp_path):
    """As SA-1B: `image` in place of `images`, and no categories."""
    for number in range(1, 4):
        image(tmp_path / f"sa_{number}.jpg")
        annotations = [{"id": 7, "segmentation": SQUARE}] * (number > 1)
        described = {"image_id": number, "file_name": f"sa_{number}.jpg", "height": 12, "width": 20}
        (tmp_path / f"sa_{number}.json").write_text(json.dumps({"image": described, "annotations": annotations}))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("object",)
    assert [record.areas.tolist() for record in dataset.records] == [[], [15], [15]]


def test_copies_of_one_image_stay_in_one_split(tmp_path):
    roboflow(tmp_path)
    for number in range(4):
        image(tmp_path / "train" / f"scan{number}_png.rf.{100 + number:032x}.jpg")
    names = sorted(file.name for file in (tmp_path / "train").glob("*.jpg"))
    (tmp_path / "train" / "_annotations.coco.json").write_text(json.dumps(content(names)))
    dataset = read_dataset(tmp_path)
    splits = split_by_patient(dataset, train=0.5, val=0.25, test=0.25)
    sources = [{Path(dataset.records[i].file_name).name.split(".rf.")[0] for i in part} for part in splits.values()]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]


def test_classes_are_matched_by_name_and_a_pattern_sees_the_name_in_the_file(tmp_path):
    for split, categories in (("train", ((1, "a", ""), (2, "b", ""))), ("val", ((1, "b ", ""), (2, "a", "")))):
        names = [f"p1_{split}.png", f"p2_{split}.png"]
        for name in names:
            image(tmp_path / split / name)
        (tmp_path / split / "labels.json").write_text(json.dumps(content(names, categories)))
    dataset = read_dataset(tmp_path, patient_pattern=r"^(p\d)")
    assert dataset.class_names == ("a", "b")
    assert [record.class_ids.tolist() for record in dataset.records] == [[1], [2], [2], [1]]
    assert [record.patient_id for record in dataset.records] == ["p1", "p2"] * 2


def test_the_project_stays_where_it_marks_something_or_is_the_only_class(tmp_path):
    assert read_dataset(roboflow(tmp_path / "marks", kinds=(0, 1))).class_names == ("set", "benign", "malignant")
    only = read_dataset(roboflow(tmp_path / "only", categories=((0, "nodule", "none"),), kinds=(0,)))
    assert only.class_names == ("nodule",)
    same = read_dataset(
        roboflow(tmp_path / "same", categories=((0, "nodule", "none"), (1, "nodule", "nodule")), kinds=(1,))
    )
    assert same.class_names == ("nodule",) and not any("categories are called" in told for told in same.warnings)


@pytest.mark.parametrize("where", ["annotations/instances_{}.json", "{}.json"])
def test_a_file_for_each_split(tmp_path, where):
    """As CVAT and COCO itself have them, with images of one name in two splits."""
    for split in ("train2017", "val2017"):
        image(tmp_path / "images" / split / "0.png")
        file = tmp_path / where.format(split)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content(["0.png"])))
    (file.parent / "captions_train2017.json").write_text("{}")
    dataset = read_dataset(tmp_path)
    assert [record.path.parent.name for record in dataset.records] == ["train2017", "val2017"]


def test_several_files_of_unknown_meaning_are_not_pooled(tmp_path):
    image(tmp_path / "a.png")
    for name in ("labels.json", "labels_corrected.json"):
        (tmp_path / name).write_text(json.dumps(content(["a.png"])))
    with pytest.raises(InputError, match=r"found labels\.json, labels_corrected\.json"):
        read_dataset(tmp_path)
    (tmp_path / "labels_corrected.json").write_text(json.dumps({"made": "today"}))  # no annotations
    assert len(read_dataset(tmp_path)) == 1


def test_files_of_several_annotators_are_pooled_by_the_names_of_their_categories(tmp_path):
    for name in "ab":
        image(tmp_path / "images" / f"{name}.png")
    (tmp_path / "anna.json").write_text(json.dumps(content(["a.png"], ((1, "cyst", ""), (2, "nodule", "")))))
    (tmp_path / "ben.json").write_text(json.dumps(content(["b.png"], ((1, "nodule", ""), (2, "cyst", "")))))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("cyst", "nodule")
    assert [record.class_ids.tolist() for record in dataset.records] == [[1], [2]]
    assert "anna.json, ben.json: pooled" in dataset.warnings[0]


def as_text(number):
    return str(number)


@pytest.mark.parametrize("write", [float, as_text, lambda number: f"{number}.0"])
def test_numbers_of_another_type(coco, write_coco, write):
    folder = write_coco(coco)
    expected = read_dataset(folder)
    written = copy.deepcopy(coco)
    for entry in written["images"]:
        entry |= {key: write(entry[key]) for key in ("id", "height", "width")} | {"spacing_mm": write(2)}
    for entry in written["categories"]:
        entry["id"] = write(entry["id"])
    for entry in written["annotations"]:
        entry["id"] = write(entry["id"])
        entry["segmentation"] = [[write(value) for value in polygon] for polygon in entry["segmentation"]]
    written["annotations"][0]["image_id"] = write(2)  # the others stay whole numbers
    written["annotations"][2] |= {"category_id": write(3)}
    written["annotations"][1]["segmentation"] = {
        "size": [write(12), write(20)], "counts": [write(count) for count in (0, 4, 8, 4, 8, 4, 8, 4, 200)],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(written))
    dataset = read_dataset(folder)
    assert dataset.digest == expected.with_spacing(2.0).digest


@pytest.mark.parametrize("value", [128.5, "12.5", "wide", float("nan"), True, None, [12]])
def test_a_size_that_is_no_whole_number(coco, write_coco, value):
    folder = write_coco(coco)
    coco["images"][0]["height"] = value
    (folder / "annotations.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=r"images id 1: height .*, width 20; expected pixels"):
        read_dataset(folder)


@pytest.mark.parametrize("flag", [2, "maybe", [1], -1])
def test_a_flag_that_is_neither(coco, write_coco, flag):
    coco["annotations"][0]["iscrowd"] = flag
    with pytest.raises(InputError, match=r"annotations id 1: iscrowd .*; expected 0 or 1"):
        read_dataset(write_coco(coco))


@pytest.mark.parametrize("flag", [0, "0", False, "false", 0.0, "", None])
def test_a_flag_that_is_not_set(coco, write_coco, flag):
    coco["annotations"][0]["iscrowd"] = flag
    dataset = read_dataset(write_coco(coco))
    assert [len(record.class_ids) for record in dataset.records] == [1, 2]


@pytest.mark.parametrize("bad", ["", [], [[]], [""], [[[2, 3], [7, 3], [7, 6]]], None])
def test_segmentations_that_are_none(coco, write_coco, bad):
    coco["annotations"][0] |= {"segmentation": bad, "bbox": [2, 3, 5, 3]}
    with pytest.raises(InputError, match=r"annotations id 1: (segmentation|has a bbox and no segmentation)"):
        read_dataset(write_coco(coco))


def test_files_of_the_system_are_no_data(coco, write_coco):
    folder = write_coco(coco)
    (folder / "annotations.json").rename(folder / "labels.json")
    for name in ("._labels.json", "images/._a_1.png", ".DS_Store", "images/Thumbs.db", "__MACOSX/._labels.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7 annotations")
    coco["images"][0]["file_name"] = "elsewhere/a_1.png"  # looked for by its name
    (folder / "labels.json").write_text(json.dumps(coco))
    image(folder / "__MACOSX" / "images" / "a_1.png")
    assert read_dataset(folder).records[0].path == folder / "images" / "a_1.png"


def test_files_of_the_system_among_masks(tmp_path):
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.png")
        Image.fromarray(np.eye(12, 20, dtype=np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    for name in ("images/._a.png", "masks/._a.png", "__MACOSX/images/._a.png", "__MACOSX/masks/._a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    assert len(read_dataset(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "images", "patients", "instances"),
    [("q1_patient_blank", 12, 6, 12), ("c1_roboflow", 14, 14, 14), ("c7_float", 12, 12, 12), ("q3_apple", 12, 12, 12)],
)
def test_inputs_of_people(name, images, patients, instances):
    if not (FAULTS / name).is_dir():
        pytest.skip("the shared inputs are not here")
    records = read_dataset(FAULTS / name).records
    assert len(records) == images and len({record.patient_id for record in records}) == patients
    assert sum(len(record.class_ids) for record in records) == instances
