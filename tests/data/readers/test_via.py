"""The VIA reader on files written in each of its forms, and on the real ones."""

import json
import math

import numpy as np
import pytest
from PIL import Image
from skimage.draw import disk

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

SQUARE = {"name": "rect", "x": 2, "y": 3, "width": 5, "height": 3}
TRIANGLE = {"name": "polygon", "all_points_x": [0, 10, 0], "all_points_y": [0, 0, 10]}


def entry(name, shapes=(), attributes=None, as_dict=False):
    regions = [{"shape_attributes": shape, "region_attributes": dict(attributes or {})} for shape in shapes]
    if as_dict:
        regions = {str(index): region for index, region in enumerate(regions)}
    return {"filename": name, "size": 7, "regions": regions, "file_attributes": {}}


def write(folder, *entries, name="via_region_data.json", project=False, size=(40, 60)):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(folder)))
    for each in entries:
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / each["filename"])
    content = {f"{each['filename']}{each['size']}": each for each in entries}
    (folder / name).write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": content} if project else content))
    return folder


@pytest.mark.parametrize("as_dict", [True, False])
@pytest.mark.parametrize("project", [True, False])
def test_every_form_says_the_same(tmp_path, as_dict, project):
    write(tmp_path, entry("a.png", [SQUARE], as_dict=as_dict), entry("b.png"), project=project)
    dataset = read_dataset(tmp_path, class_name="tumor")
    assert dataset.class_names == ("tumor",)
    first, second = dataset.records
    assert (first.file_name, first.height, first.width) == ("a.png", 40, 60)
    assert first.boxes.tolist() == [[2, 3, 7, 6]] and first.areas.tolist() == [15]
    assert second.class_ids.shape == (0,)
    assert dataset[0].masks[0, 3:6, 2:7].all()
    assert len(read_dataset(tmp_path / "via_region_data.json", "via")) == 2


def test_a_polygon_is_what_coco_makes_of_it(tmp_path):
    record = read_dataset(write(tmp_path, entry("a.png", [TRIANGLE]))).records[0]
    np.testing.assert_allclose(record.boxes, [[0, 0, 10, 10]], atol=1)  # its tips cover no pixel's center
    assert abs(record.areas[0] - 50) <= 5


@pytest.mark.parametrize("radius", [1.5, 4, 17])
def test_a_circle_covers_the_pixels_whose_centers_lie_in_it(tmp_path, radius):
    circle = {"name": "circle", "cx": 30, "cy": 20, "r": radius}
    mask = read_dataset(write(tmp_path, entry("a.png", [circle])))[0].masks[0]
    expected = np.zeros((40, 60), bool)
    expected[disk((19.5, 29.5), radius, shape=(40, 60))] = True
    assert (mask ^ expected).sum() <= 0.1 * expected.sum() + 2


def test_an_ellipse_is_turned_clockwise_on_the_screen(tmp_path):
    shape = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 16, "ry": 4, "theta": math.pi / 4}
    flat = shape | {"theta": 0}
    dataset = read_dataset(write(tmp_path, entry("a.png", [shape, flat]), entry("b.png", [{**flat, "theta": None}])))
    turned, level = dataset[0].masks
    assert turned[30, 40] and not turned[10, 40]  # y runs down
    assert level[20, 44] and not level[28, 30]
    assert dataset.records[0].boxes[1].tolist() == dataset.records[1].boxes[0].tolist() == [14, 16, 46, 24]
    assert turned.sum() == pytest.approx(math.pi * 64, rel=0.05)


def test_classes_come_from_the_one_attribute_that_is_filled_in(tmp_path):
    write(
        tmp_path,
        entry("a.png", [SQUARE], {"type": "meningioma", "note": ""}),
        entry("b.png", [SQUARE, SQUARE], {"type": {"glioma": True, "meningioma": False}}),
    )
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("glioma", "meningioma")
    assert [record.class_ids.tolist() for record in dataset.records] == [[2], [1, 1]]


def test_of_several_attributes_one_must_be_chosen(tmp_path):
    write(tmp_path, entry("a.png", [SQUARE], {"type": "glioma", "grade": "4"}))
    with pytest.raises(InputError, match="attributes type, grade; say with class_attribute"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, class_attribute="grade").class_names == ("4",)
    with pytest.raises(InputError, match=r"a\.png, region 0: side is None; expected one class"):
        read_dataset(tmp_path, class_attribute="side")


def test_folders_of_a_split_are_pooled_and_the_patient_decides(tmp_path):
    write(tmp_path / "train", entry("1---7-i1.png", [SQUARE]), entry("x.png"))
    write(tmp_path / "val", entry("1---7-i2.png", [SQUARE]), entry("x.png"))
    dataset = read_dataset(tmp_path, patient_pattern=r"---(\d+)-|$")
    assert [record.file_name for record in dataset.records] == [
        "train/1---7-i1.png", "train/x.png", "val/1---7-i2.png", "val/x.png",
    ]  # fmt: skip
    assert [record.patient_id for record in dataset.records] == ["7", "train/x.png", "7", "val/x.png"]
    assert dataset.warnings[0].startswith("2 of 4 images name no patient")


def test_a_project_beside_its_export_is_not_read_twice(tmp_path):
    write(tmp_path, entry("a.png", [SQUARE]), name="project.json", project=True)
    write(tmp_path, entry("a.png", [SQUARE]))
    assert len(read_dataset(tmp_path)) == 1
    (tmp_path / "via_region_data.json").rename(tmp_path / "second.json")
    with pytest.raises(InputError, match=r"or via_region_data\.json; found project\.json, second\.json"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"name": "point", "cx": 3, "cy": 3}, "shape 'point' has no area"),
        ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "shape 'polyline' has no area"),
        ({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "has a polygon with 2 points"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "of one length"),
        ({"name": "polygon", "all_points_x": [1, 2, "a"], "all_points_y": [1, 2, 3]}, "not a finite number"),
        ({"name": "rect", "x": 1, "y": 1, "width": 0, "height": 4}, "rect without an extent"),
        ({"name": "circle", "cx": 1, "cy": None, "r": 4}, "circle has cx=1, cy=None, r=4; expected finite numbers"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": 1e6}, "far outside its image"),
    ],
)
def test_shapes_that_cannot_be_learnt_are_named(tmp_path, shape, message):
    write(tmp_path, entry("a.png", [SQUARE, shape]))
    with pytest.raises(InputError, match=rf"1 problem\n  via_region_data\.json: a\.png, region 1: .*{message}"):
        read_dataset(tmp_path)


def test_all_problems_are_told_at_once(tmp_path):
    write(tmp_path / "train", entry("a.png", [{"name": "line"}]), entry("b.png", [SQUARE]))
    write(tmp_path / "val", entry("a.png", [SQUARE]))
    (tmp_path / "train" / "b.png").unlink()
    (tmp_path / "val" / "a.png").write_text("nothing")
    with pytest.raises(InputError) as caught:
        read_dataset(tmp_path)
    text = str(caught.value)
    assert "3 problems" in text and "shape 'line'" in text and "'b.png' is neither in" in text
    assert "val/via_region_data.json: a.png: " in text and "expected a readable" in text


def test_what_is_no_via_file(tmp_path):
    with pytest.raises(InputError, match="expected a VIA JSON"):
        read_dataset(tmp_path, "via")
    (tmp_path / "via_region_data.json").write_text('{"filename" "regions"')
    with pytest.raises(InputError, match="not a JSON file"):
        read_dataset(tmp_path)
    (tmp_path / "via_region_data.json").write_text('{"_via_img_metadata": {}}')
    with pytest.raises(InputError, match="no image; expected at least one"):
        read_dataset(tmp_path)
    (tmp_path / "via_region_data.json").write_text('{"a": {"filename": "x", "regions": 5}, "b": 3}')
    with pytest.raises(InputError, match="regions are int") as caught:
        read_dataset(tmp_path)
    assert "b: expected an object with filename and regions" in str(caught.value)


def test_options_are_the_readers_own(tmp_path):
    write(tmp_path, entry("a.png"))
    with pytest.raises(InputError, match=r"color: .*reader via, which has class_attribute, class_name"):
        read_dataset(tmp_path, color="red")
    with pytest.raises(InputError, match="class_name: expected no such option with reader coco"):
        read_dataset(tmp_path, "coco", class_name="x")


def test_real_sets(shared_data):
    seed = read_dataset(shared_data / "brain_tumor" / "via_seed", patient_pattern=r"---(\d+)-|$", class_name="tumor")
    assert len(seed) == 54 and len({record.patient_id for record in seed.records}) == 7
    assert sum(len(record.class_ids) for record in seed.records) == 54
    navoneel = read_dataset(shared_data / "brain_tumor" / "via_navoneel")
    assert len(navoneel) == 110 and sum(len(record.class_ids) for record in navoneel.records) == 145
    for dataset in (seed, navoneel):
        sample, record = dataset[0], dataset.records[0]
        assert sample.masks.sum(axis=(1, 2)).tolist() == record.areas.tolist()
