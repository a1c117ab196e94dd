"""COCO files as three annotation tools export them, and masks as run lengths."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

POLYGON = [[2, 3, 7, 3, 7, 6, 2, 6]]
MASK = np.zeros((12, 20), np.uint8)
MASK[3:6, 2:7] = 1


def place(folder, *names):
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 20), 40 * index, np.uint8)).save(folder / name)
    return folder


def annotation(key, image, category, segmentation=POLYGON, **fields):
    boxes = {"bbox": [2.0, 3.0, 5.0, 3.0], "area": 15.0}
    return {"id": key, "image_id": image, "category_id": category, "segmentation": segmentation} | boxes | fields


def image(key, name, **fields):
    return {"id": key, "file_name": name, "width": 20, "height": 12} | fields


def makesense():
    return {
        "info": {"description": "my-project"},
        "images": [image(1, "0017_left.png"), image(2, "0023_left.png")],
        "annotations": [annotation(0, 1, 1, iscrowd=0), annotation(1, 2, 2, iscrowd=0)],
        "categories": [{"id": 1, "name": "iso"}, {"id": 2, "name": "hypo"}],
    }


def label_studio(first, second):
    return {
        "images": [image(0, first), image(1, second)],
        "categories": [{"id": 0, "name": "hypo"}, {"id": 1, "name": "iso"}],
        "annotations": [annotation(0, 0, 1, ignore=0, iscrowd=0), annotation(1, 1, 0, ignore=0, iscrowd=0)],
        "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"},
    }


def cvat(segmentation=POLYGON, crowd=0):
    meta = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    extra = {"iscrowd": crowd, "attributes": {"occluded": False}}
    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": ""},
        "categories": [{"id": 1, "name": "hypo", "supercategory": ""}, {"id": 2, "name": "iso", "supercategory": ""}],
        "images": [image(1, "images/a.png", **meta), image(2, "images/b.png", **meta)],
        "annotations": [annotation(1, 1, 2, segmentation, **extra), annotation(2, 2, 1, segmentation, **extra)],
    }


def check(dataset):
    """Both images with one instance, iso on the first and hypo on the second."""
    assert [[dataset.class_names[key - 1] for key in record.class_ids] for record in dataset.records] == [
        ["iso"], ["hypo"],
    ]  # fmt: skip
    for sample in dataset:
        np.testing.assert_array_equal(sample.masks[0], MASK)
    assert [int(sample.image[0, 0, 0]) for sample in dataset] == [0, 40]


def test_makesense(tmp_path):
    place(tmp_path, "images/0017_left.png", "images/0023_left.png")
    (tmp_path / "labels_my-project_2026-01-01-10-00-00.json").write_text(json.dumps(makesense()))
    dataset = read_dataset(tmp_path, patient_pattern=r"^(\d+)_")
    check(dataset)
    assert [record.patient_id for record in dataset.records] == ["0017", "0023"]
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("images/1f0c9a2e-a.png", "images/0b7c11d5-b.png"),
        ("images\\1f0c9a2e-a.png", "images\\0b7c11d5-b.png"),
        ("/data/upload/3/1f0c9a2e-a.png", "/data/upload/3/0b7c11d5-b.png"),
        ("../../label-studio/data/media/upload/3/1f0c9a2e-a.png", "../../label-studio/data/media/upload/3/x/b.png"),
        ("/data/local-files/?d=scans/a.png", "/data/local-files/?d=scans%2Fb.png"),
    ],
)
@pytest.mark.parametrize("folder", ["", "images/", "mine/scans/"])
def test_label_studio(tmp_path, first, second, folder):
    place(tmp_path, f"{folder}a.png", f"{folder}b.png")
    (tmp_path / "result.json").write_text(json.dumps(label_studio(first, second)))
    dataset = read_dataset(tmp_path)
    check(dataset)
    assert any("2 images do not lie where the annotations say" in warning for warning in dataset.warnings)


def test_label_studio_with_the_uploaded_names(tmp_path):
    place(tmp_path, "images/1f0c9a2e-a.png", "images/0b7c11d5-b.png")
    (tmp_path / "result.json").write_text(json.dumps(label_studio("images/1f0c9a2e-a.png", "images/0b7c11d5-b.png")))
    dataset = read_dataset(tmp_path)
    check(dataset)
    assert not any("do not lie" in warning for warning in dataset.warnings)


def test_a_name_that_two_files_have_is_not_guessed(tmp_path):
    place(tmp_path, "one/a.png", "two/a.png", "b.png")
    (tmp_path / "result.json").write_text(json.dumps(label_studio("/data/upload/3/a.png", "b.png")))
    with pytest.raises(InputError, match=r"could be .*a\.png or .*a\.png; expected one file of that name"):
        read_dataset(tmp_path)


def test_no_file_outside_the_folder_is_opened(tmp_path):
    place(tmp_path, "outside.png", "set/b.png")
    content = label_studio("../outside.png", "b.png")
    (tmp_path / "set" / "result.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"'\.\./outside\.png' is neither in"):
        read_dataset(tmp_path / "set")
    content["images"][0]["file_name"] = str(tmp_path / "outside.png")
    (tmp_path / "set" / "result.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="1 problem"):
        read_dataset(tmp_path / "set")


def run_lengths(compressed):
    packed = coco_mask.encode(np.asfortranarray(MASK))
    if compressed:
        return {"size": [12, 20], "counts": packed["counts"].decode("ascii")}
    flat = MASK.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    return {"size": [12, 20], "counts": np.diff([0, *ends, len(flat)]).tolist()}


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize(
    "segmentation", [POLYGON, run_lengths(False), run_lengths(True)], ids=["polygon", "rle", "packed"]
)
@pytest.mark.parametrize("file", ["annotations/instances_default.json", "annotations.json"])
def test_cvat(tmp_path, file, segmentation, crowd):
    place(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(cvat(segmentation, crowd)))
    dataset = read_dataset(tmp_path)
    check(dataset)  # CVAT marks what was drawn with a brush as crowds
    assert len(dataset.warnings) == 1 and "name no patient" in dataset.warnings[0]


def test_crowds_alone_are_instances(tmp_path):
    """Datumaro sets iscrowd on every mask; a set without any instance would be of no use."""
    place(tmp_path, "images/a.png", "images/b.png")
    content = cvat(run_lengths(True), 1)
    for each in content["annotations"]:
        del each["attributes"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    check(dataset)
    assert any("all annotations have iscrowd 1" in each for each in dataset.warnings)


def test_boxes_alone_are_whole_masks(tmp_path):
    """As of a detection project of Roboflow; beside outlines, a box without one is an error."""
    place(tmp_path, "images/a.png", "images/b.png")
    content = cvat([])
    for each in content["annotations"]:
        each["bbox"] = [2, 3, 5, 4]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    dataset = read_dataset(tmp_path)
    assert [record.boxes.tolist() for record in dataset.records] == [[[2, 3, 7, 7]]] * 2
    assert any("2 annotations are boxes without an outline" in each for each in dataset.warnings)
    content["annotations"][0]["bbox"] = [2, 3, "a", 4]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"bbox \[2, 3, 'a', 4\]; expected \[x, y, width, height\]"):
        read_dataset(tmp_path)


def test_elsewhere_a_crowd_is_none(tmp_path):
    place(tmp_path, "images/a.png", "images/b.png")
    content = cvat(run_lengths(True), 1)
    del content["annotations"][0]["attributes"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert [len(record.class_ids) for record in read_dataset(tmp_path).records] == [0, 1]
