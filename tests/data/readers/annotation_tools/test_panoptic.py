"""The reader of COCO panoptic sets."""

import json

import numpy as np
import pytest
from PIL import Image

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

IDS = 300, 70_000, 5
"""Of segments: each of the three color channels is used."""


def segments():
    values = np.zeros((40, 60), np.int64)
    values[3:15, 4:14], values[20:30, 30:50], values[35:, :] = IDS
    return values


@pytest.fixture
def write(tmp_path, save_images):
    """Writes an image with two things and a stuff, after `change` of the content, and its PNG."""

    def write(change=lambda content: None, values=None):
        content = {
            "categories": [
                {"id": 4, "name": "cyst", "isthing": 1}, {"id": 2, "name": "nodule", "isthing": 1},
                {"id": 9, "name": "tissue", "isthing": 0},
            ],
            "images": [
                {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60, "patient_id": "P1"},
                {"id": 2, "file_name": "b.jpg", "height": 40, "width": 60},
            ],
            "annotations": [
                {"image_id": 1, "file_name": "a.png", "segments_info": [
                    {"id": key, "category_id": category, "iscrowd": 0, "area": 1}
                    for key, category in zip(IDS, (4, 2, 9), strict=True)]},
                {"image_id": 2, "file_name": "b.png", "segments_info": []},
            ],
        }  # fmt: skip
        change(content)
        save_images(tmp_path / "train2017", "a.jpg", "b.jpg")
        folder = tmp_path / "annotations" / "panoptic_train2017"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / "panoptic_train2017.json").write_text(json.dumps(content))
        for name, ids in (("a", segments() if values is None else values), ("b", np.zeros((40, 60), np.int64))):
            Image.fromarray(np.dstack([ids & 255, ids >> 8 & 255, ids >> 16]).astype(np.uint8)).save(
                folder / f"{name}.png"
            )
        return tmp_path

    return write


def test_things_are_instances(write):
    dataset = read_dataset(write())
    first = dataset[0]
    assert dataset.class_names == ("nodule", "cyst", "tissue")
    assert (first.source, first.patient_id) == ("train2017/a.jpg", "P1")
    assert [record.split for record in dataset.records] == ["train", "train"]
    assert first.class_ids.tolist() == [2, 1] and len(dataset.records[1].class_ids) == 0
    for mask, key in zip(first.masks, IDS, strict=False):
        np.testing.assert_array_equal(mask, segments() == key)
    assert any("segments of stuff (isthing 0) are left out" in warning for warning in dataset.warnings)


def test_crowds_are_regions(write):
    def change(content):
        content["annotations"][0]["segments_info"][1]["iscrowd"] = 1

    sample = read_dataset(write(change))[0]
    assert sample.class_ids.tolist() == [2] and sample.crowd_ids.tolist() == [1]
    np.testing.assert_array_equal(sample.crowd_masks[0], segments() == IDS[1])


def changed(*path, to):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed("annotations", 0, "segments_info", 0, "id", to=301),
            r"segment 0: id 301 is not among the colors of a",
        ),
        (
            changed("annotations", 0, "segments_info", 0, "category_id", to=7),
            "category_id 7 is not among the categories",
        ),
        (changed("annotations", 0, "segments_info", to=[]), r"a\.png: holds the ids \[5, 300, 70000\], which"),
        (changed("annotations", 0, "segments_info", to=3), "segments_info is int; expected a list of objects"),
        (changed("annotations", 0, "file_name", to="c.png"), r"its PNG cannot be read \('c\.png' is neither in"),
        (changed("annotations", 0, "image_id", to=7), "image_id is not among the images"),
        (changed("annotations", 0, "image_id", to=2), "image_id 2 stands twice"),
        (changed("images", 0, "height", to=41), r"a\.png: has 60×40 pixels; expected 60×41"),
        (changed("images", 0, "id", to=2), "id 2 stands twice"),
        (changed("categories", to={}), "expected a COCO object with the lists"),
    ],
)
def test_damaged_files_are_named(write, change, message):
    with pytest.raises(InputError, match=message):
        read_dataset(write(change))


def test_images_without_annotation_and_masks_without_image(write, tmp_path):
    dataset = read_dataset(write(lambda content: content["annotations"].pop()))
    assert len(dataset.records[1].class_ids) == 0
    assert any("images have no annotation and count as images without instances" in each for each in dataset.warnings)
    write(changed("images", 0, "file_name", to="a.png"))
    with pytest.raises(InputError, match=r"a\.png is found as mask only"):
        read_dataset(tmp_path)


def test_a_mask_of_another_size(write):
    with pytest.raises(InputError, match=r"a\.png: has 60×39 pixels; expected 60×40"):
        read_dataset(write(values=segments()[1:]))
