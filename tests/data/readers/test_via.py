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
        ({"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}, "shape 'polyline' has no area"),
        ({"name": "polygon", "all_points_x": [1, 2, "a"], "all_points_y": [1, 2, 3]}, "not a finite number"),
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
    with pytest.raises(InputError, match="expected a VIA file"):
        read_dataset(tmp_path, "via")
    (tmp_path / "via_region_data.json").write_text('{"filename" "regions"')
    with pytest.raises(InputError, match="not a JSON file"):
        read_dataset(tmp_path)
    (tmp_path / "via_region_data.json").write_text('{"_via_img_metadata": {}}')
    with pytest.raises(InputError, match="none can be read; expected at least one"):
        read_dataset(tmp_path)
    (tmp_path / "via_region_data.json").write_text('{"a": {"filename": "x", "regions": 5}, "b": 3}')
    with pytest.raises(InputError, match="regions are int") as caught:
        read_dataset(tmp_path)
    assert "b: expected an object with filename and regions" in str(caught.value)


def via3(tmp_path, *metadata, **files):
    """A VIA 3 project of the images a.png and b.png, each in a view of its own."""
    write(tmp_path, entry("a.png"), entry("b.png"), name="unused.json")
    (tmp_path / "unused.json").unlink()
    attribute = {
        "1": {"aname": "kind", "anchor_id": "FILE1_Z0_XY1", "type": 4, "options": {"0": "cyst", "1": "nodule"}},
        "2": {"aname": "patient_id", "anchor_id": "FILE1_Z0_XY0", "type": 1, "options": {}},
    }
    file = {str(key): {"fid": str(key), "fname": f"{name}.png", "type": 2, "loc": 1, "src": ""} for key, name in
            ((1, "a"), (2, "b"))} | files  # fmt: skip
    content = {
        "project": {"pid": "x", "data_format_version": "3.1.1"}, "config": {}, "attribute": attribute, "file": file,
        "metadata": {f"m{number}": each for number, each in enumerate(metadata)},
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    }  # fmt: skip
    (tmp_path / "project.json").write_text(json.dumps(content))
    return tmp_path


def meta(xy, value="1", view="1", attribute="1", z=()):
    return {"vid": view, "flg": 0, "z": list(z), "xy": xy, "av": {attribute: value}}


def test_a_project_of_via_3(tmp_path):
    folder = via3(
        tmp_path,
        meta([2, 2, 3, 5, 3]),
        meta([7, 10, 10, 20, 10, 20, 20, 10, 20], "0"),
        meta([3, 30, 20, 9]),
        meta([4, 30, 20, 9, 4]),
        meta([8, 12, 10, 20, 15, 15, 20, 10, 15]),
        meta([], "P2", attribute="2"),
    )
    dataset = read_dataset(folder)
    assert dataset.class_names == ("cyst", "nodule")
    assert [record.patient_id for record in dataset.records] == ["P2", "b.png"]
    first = dataset.records[0]
    assert first.class_ids.tolist() == [2, 1, 2, 2, 2] and first.areas[[0, 1, 4]].tolist() == [15, 100, 100]
    assert first.boxes.tolist() == [
        [2, 3, 7, 6], [10, 10, 20, 20], [21, 11, 39, 29], [21, 16, 39, 24], [10, 10, 20, 20],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (meta([1, 2, 3]), r"project\.json: a\.png, region m0: shape 'point' has no area"),
        (meta([2, 2, 3]), "shape '2 of 2 coordinates' has no area"),
        (meta([2, 2, 3, 5, 3], z=[1.5]), "region m0: expected shape_attributes"),
        (meta([2, 2, 3, 5, 3], view="7"), "metadata m0: expected an object with the vid of a view"),
        (meta([7, 1, 2, 3, 4]), "has a polygon with 2 points"),
    ],
)
def test_what_via_3_cannot_say_is_named(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        read_dataset(via3(tmp_path, wrong))


def test_videos_of_via_3_are_not_read(tmp_path):
    with pytest.raises(InputError, match="view 1: expected one image; videos"):
        read_dataset(via3(tmp_path, **{"1": {"fid": "1", "fname": "a.mp4", "type": 4}}))


def test_a_table(tmp_path):
    write(tmp_path, entry("a.png"), entry("b.png"), name="unused.json")
    (tmp_path / "unused.json").unlink()
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"

    def row(name, shape, attributes):
        cells = (json.dumps(each).replace('"', '""') for each in ({"patient_id": "7"}, shape, attributes))
        file, shape, attributes = (f'"{each}"' for each in cells)
        return f"{name},7,{file},1,0,{shape},{attributes}"

    rows = [row("a.png", SQUARE, {"type": "cyst"}), row("a.png", TRIANGLE, {"type": "nodule"}), row("b.png", {}, {})]
    (tmp_path / "via_region_data.csv").write_text("\n".join([columns, *rows]))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("cyst", "nodule") and {record.patient_id for record in dataset.records} == {"7"}
    assert [record.class_ids.tolist() for record in dataset.records] == [[1, 2], []]
    assert dataset.records[0].areas[0] == 15
    (tmp_path / "via_region_data.csv").write_text("\n".join([columns, rows[0].replace("{", "", 2)]))
    with pytest.raises(InputError, match=r"a\.png, region 0: expected shape_attributes"):
        read_dataset(tmp_path)


def test_a_table_of_via_3(tmp_path):
    folder = via3(tmp_path)
    content = json.loads((folder / "project.json").read_text())
    (folder / "project.json").unlink()

    def cell(value):
        return '"' + json.dumps(value).replace('"', '""') + '"'

    rows = [("1_x", "a.png", [], [2, 2, 3, 5, 3], {"1": "1"}), ("1_y", "a.png", [], [], {"2": "P2"}),
            ("2_z", "b.png", [], [7, 10, 10, 20, 10, 20, 20, 10, 20], {"1": "0"})]  # fmt: skip
    lines = [
        "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)", "# Notes:",
        f"# ATTRIBUTE = {json.dumps(content['attribute'])}",
        "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata",
        *(f'"{key}",{cell([name])},0,{cell(z)},{cell(xy)},{cell(av)}' for key, name, z, xy, av in rows),
    ]  # fmt: skip
    (folder / "table.csv").write_text("\n".join(lines))
    dataset = read_dataset(folder)
    assert dataset.class_names == ("cyst", "nodule")
    assert [record.patient_id for record in dataset.records] == ["P2", "b.png"]
    assert [record.class_ids.tolist() for record in dataset.records] == [[2], [1]]
    assert [record.boxes.tolist() for record in dataset.records] == [[[2, 3, 7, 6]], [[10, 10, 20, 20]]]
    (folder / "table.csv").write_text(
        "\n".join([*lines[:4], lines[4].replace("[2,", "[1,"), lines[6] + ",0", lines[6]])
    )
    with pytest.raises(InputError, match=r"table\.csv: row 2: expected metadata_id, file_list, flags"):
        read_dataset(folder)


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
