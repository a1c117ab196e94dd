"""The Label Studio reader on tasks as it exports them; brush masks are packed here bit by bit."""

import json
import math

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.readers.annotation_tools.label_studio import decode_brush
from mrcnn.errors import InputError

SIZE = 40, 60
POINTS = [[x / 0.6, y / 0.4] for x, y in ((2, 3), (7, 3), (7, 6), (2, 6))]


def result(kind, **value):
    name = value.pop("label", "cyst")
    return {
        "type": kind, "from_name": "label", "to_name": "image", "original_width": SIZE[1], "original_height": SIZE[0],
        "image_rotation": 0, "value": value | {kind: [name]},
    }  # fmt: skip


SQUARE = result("polygonlabels", points=POINTS, closed=True)


def pack(values):
    """Pack values as thi.ng/rle-pack does, in runs of one value and of different ones alternately."""
    bits = f"{len(values):032b}{7:05b}{2:04b}{7:04b}{11:04b}{15:04b}"
    start = 0
    while start < len(values):
        end = start + 1
        while end < len(values) and values[end] == values[start]:
            end += 1
        if end - start > 1:
            size = next(index for index, limit in enumerate((8, 256, 4096, 65536)) if end - start <= limit)
            bits += f"1{size:02b}{end - start - 1:0{(3, 8, 12, 16)[size]}b}{values[start]:08b}"
        else:
            end = min(start + 5, len(values))
            bits += f"000{end - start - 1:03b}" + "".join(f"{value:08b}" for value in values[start:end])
        start = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def brush(mask):
    return pack(np.dstack([mask * 7, mask * 3, mask * 9, mask * 255]).astype(np.uint8).ravel().tolist())


@pytest.fixture
def write(tmp_path, save_images):
    """Writes one task of each list of results."""

    def write(*tasks, image="/data/upload/3/1f0c9a2e-a{}.png", **fields):
        content = []
        for number, results in enumerate(tasks):
            save_images(tmp_path / "images", f"a{number}.png")
            annotations = [{"id": 7, "result": results, "was_cancelled": False, "ground_truth": False}]
            task = {"id": number + 1, "data": {"image": image.format(number)}, "annotations": annotations}
            content.append(task | {"predictions": [{"result": [SQUARE]}]} | fields)
        (tmp_path / "project-1.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_shapes(write):
    mask = np.random.default_rng(1).random(SIZE) > 0.4
    folder = write(
        [
            SQUARE,
            result("rectanglelabels", x=20, y=25, width=30, height=10, rotation=0, label="nodule"),
            result("rectanglelabels", x=50, y=25, width=30, height=10, rotation=90, label="nodule"),
            result("ellipselabels", x=50, y=50, radiusX=15, radiusY=10, rotation=90, label="nodule"),
            result("brushlabels", format="rle", rle=brush(mask)),
            result("choices", choices=["good"]),
            {"type": "relation", "from_id": "a", "to_id": "b"},
        ],
        [],
        data={"patient_id": "P3", "image": "/data/local-files/?d=set/images/a0.png"},
    )
    tasks = json.loads((folder / "project-1.json").read_text())
    tasks[1]["data"] = {"scan": "https://bucket/images/a1.png?X-Amz-Signature=1"}
    (folder / "project-1.json").write_text(json.dumps(tasks))
    dataset = read_dataset(folder)
    first, second = dataset
    assert (first.source, first.patient_id, second.source) == ("images/a0.png", "P3", "images/a1.png")
    assert first.class_ids.tolist() == [1, 2, 2, 2, 1] and second.class_ids.tolist() == []
    assert dataset.records[0].boxes[:3].tolist() == [[2, 3, 7, 6], [12, 10, 30, 14], [26, 10, 30, 28]]
    assert dataset.records[0].areas[:3].tolist() == [15, 72, 72]
    assert dataset.records[0].areas[3] == pytest.approx(math.pi * 36, rel=0.05)
    assert dataset.records[0].boxes[3].tolist() == [26, 11, 34, 29]
    np.testing.assert_array_equal(first.masks[4], mask)
    assert any("2 results have no area" in warning for warning in dataset.warnings)


def test_shapes_with_labels_of_their_own(write):
    apart = result("labels", points=POINTS, label="nodule")
    assert read_dataset(write([apart])).class_names == ("nodule",)


@pytest.mark.parametrize("seed", range(4))
def test_brush_masks_are_unpacked(seed):
    rng = np.random.default_rng(seed)
    values = np.repeat(rng.integers(0, 256, 60), rng.integers(1, 900, 60)).astype(np.uint8)
    np.testing.assert_array_equal(decode_brush(pack(values.tolist()), len(values)), values)


def test_which_annotation_of_a_task_is_read(write):
    one, other = ({"result": [SQUARE] * count, "was_cancelled": False} for count in (1, 2))
    with pytest.raises(InputError, match=r"task 1: has 2 annotations; expected one, or one that is marked as ground"):
        read_dataset(write([], annotations=[one, other]))
    for chosen in ([one | {"was_cancelled": True}, other], [one, other | {"ground_truth": True}]):
        assert len(read_dataset(write([], annotations=chosen)).records[0].class_ids) == 2
    folder = write([SQUARE], [])
    tasks = json.loads((folder / "project-1.json").read_text())
    tasks[1]["annotations"] = []
    (folder / "project-1.json").write_text(json.dumps(tasks))
    dataset = read_dataset(folder)
    assert len(dataset) == 1 and any("tasks have no annotation and are left out" in each for each in dataset.warnings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SQUARE | {"original_width": 61}, r"project-1\.json: task 1: images/a0\.png has 60×40 pixels; expected 61×40"),
        (SQUARE | {"original_width": None}, "expected original_width and original_height"),
        (SQUARE | {"image_rotation": 90}, "image_rotation 90; expected 0"),
        (result("polygonlabels", points=[[1, 1], [2, 2]]), "result 0: has a polygon with 2 points"),
        (result("polygonlabels", points=[[1, 1], [2, None], [3, 3]]), "has the coordinate 'None'"),
        (result("polygonlabels", points=[[150, 150], [160, 150], [150, 170]]), "lies outside its image"),
        (result("rectanglelabels", x=1, y=2, width=0, height=5), "box without an extent"),
        (result("brushlabels", format="png", rle=[]), "has the format 'png'; expected rle"),
        (result("brushlabels", format="rle", rle=[1, 2, 300]), "not a list of numbers from 0 to 255"),
        (result("brushlabels", format="rle", rle=brush(np.ones(SIZE, bool))[:-2]), "cut short"),
        (
            result("brushlabels", format="rle", rle=brush(np.ones((40, 59), bool))),
            "has an rle of 9440 values of 8 bits",
        ),
        (SQUARE | {"value": SQUARE["value"] | {"polygonlabels": ["a", "b"]}}, r"class \['a', 'b'\]; expected a text"),
    ],
)
def test_damaged_results_are_named(write, wrong, message):
    folder = write([wrong], [SQUARE])
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["images/a1.png"]


def test_damaged_files_are_named(write):
    folder = write([SQUARE], image="a9{}.png")
    with pytest.raises(InputError, match=r"task 1: 'a90\.png' is neither in"):
        read_dataset(folder)
    with pytest.raises(InputError, match=r"stands in 2 entries \(project-1\.json: task 1, project-1\.json: task 2\)"):
        read_dataset(write([SQUARE], [SQUARE], image="a0.png"))
    (folder / "project-1.json").write_text((folder / "project-1.json").read_text()[:-1])
    with pytest.raises(InputError, match=r"project-1\.json: not a JSON file"):
        read_dataset(folder)


def test_json_min(tmp_path, save_images):
    mask = np.random.default_rng(3).random(SIZE) > 0.6
    save_images(tmp_path / "images", "a.png", "b.png")
    common = {"original_width": 60, "original_height": 40}
    entries = [
        {"image": "/data/upload/3/1f0c9a2e-a.png", "id": 1, "patient_id": "p", "annotator": 1, "annotation_id": 5,
         "label": [{"points": POINTS, "closed": True, "polygonlabels": ["cyst"], **common}],
         "brush": [{"format": "rle", "rle": brush(mask), "brushlabels": ["nodule"], **common},
                   {"x": 1, "y": 2, "keypointlabels": ["tip"], **common}]},
        {"image": "/data/upload/3/1f0c9a2e-b.png", "id": 2, "annotator": 1, "annotation_id": 6, "lead_time": 3.5},
    ]  # fmt: skip
    (tmp_path / "project-min.json").write_text(json.dumps(entries))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("cyst", "nodule")
    assert [record.class_ids.tolist() for record in dataset.records] == [[1, 2], []]
    square = np.zeros(SIZE, bool)
    square[3:6, 2:7] = True
    np.testing.assert_array_equal(dataset[0].masks, [square, mask])
    assert dataset.records[0].patient_id == "p"
    assert any(warning.startswith("results have no area") for warning in dataset.warnings)
