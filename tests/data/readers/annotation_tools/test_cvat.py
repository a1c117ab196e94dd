"""The CVAT reader."""

import math

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

LABELS = "<meta><task><labels><label><name>nodule</name></label><label><name>cyst</name></label></labels></task></meta>"
SQUARE = '<polygon label="cyst" points="2.00,3.00;7.00,3.00;7.00,6.00;2.00,6.00" occluded="0" z_order="0"/>'


@pytest.fixture
def write(tmp_path, save_images):
    """Writes a file with an image of the given shapes and one without."""

    def write(*shapes, meta=LABELS, name="images/a.png", more="", folder="."):
        (tmp_path / folder).mkdir(exist_ok=True)
        save_images(tmp_path / folder / "images", "a.png", "b.png")
        (tmp_path / folder / "annotations.xml").write_text(
            f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}'
            f'<image id="0" name="{name}" subset="Train" width="60" height="40">{"".join(shapes)}</image>'
            f'<image id="1" name="b.png" subset="Validation" width="60" height="40"/>{more}</annotations>'
        )
        return tmp_path

    return write


def runs_of(mask):
    """Run lengths along rows, background first, counted pixel by pixel."""
    counts, last = [0], False
    for value in mask.ravel().tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    return ", ".join(map(str, counts))


def test_shapes(write):
    mask = np.random.default_rng(1).random((6, 9)) > 0.4
    folder = write(
        SQUARE,
        '<box label="nodule" xtl="10" ytl="20" xbr="30" ybr="24"/>',
        '<box label="nodule" xtl="10" ytl="20" xbr="30" ybr="24" rotation="90.00"/>',
        '<ellipse label="nodule" cx="30" cy="20" rx="9" ry="4" rotation="90"/>',
        f'<mask label="cyst" rle="{runs_of(mask)}" left="40" top="10" width="9" height="6"/>',
        '<points label="cyst" points="1,1"/>',
        '<tag label="study"><attribute name="patient_id">P7</attribute></tag>',
    )
    dataset = read_dataset(folder)
    first, second = dataset
    assert dataset.class_names == ("nodule", "cyst")
    assert [record.split for record in dataset.records] == ["train", "val"]
    assert (first.source, first.patient_id, second.class_ids.tolist()) == ("images/a.png", "P7", [])
    assert first.class_ids.tolist() == [2, 1, 1, 1, 2]
    assert dataset.records[0].boxes[:3].tolist() == [[2, 3, 7, 6], [10, 20, 30, 24], [18, 12, 22, 32]]
    assert dataset.records[0].areas[:3].tolist() == [15, 80, 80]
    assert dataset.records[0].boxes[3].tolist() == [26, 11, 34, 29]
    assert dataset.records[0].areas[3] == pytest.approx(math.pi * 36, rel=0.05)
    expected = np.zeros((40, 60), bool)
    expected[10:16, 40:49] = mask
    np.testing.assert_array_equal(first.masks[4], expected)
    assert any("annotations have no area (points, polylines)" in warning for warning in dataset.warnings)


def test_splits_of_files(write, tmp_path):
    (write(SQUARE) / "annotations.xml").rename(tmp_path / "train.xml")
    (tmp_path / "train.xml").write_text((tmp_path / "train.xml").read_text().replace('subset="Train"', ""))
    assert [record.split for record in read_dataset(tmp_path).records] == ["train", "val"]


def test_groups_and_several_tasks(write):
    grouped = SQUARE.replace("<polygon", '<polygon group_id="3"')
    other = grouped.replace("2.00,3.00;7.00,3.00;7.00,6.00;2.00,6.00", "20,20;30,20;30,30")
    write(grouped, other, SQUARE.replace("<polygon", '<polygon group_id="0"'), folder="task_1")
    labels = LABELS.replace("nodule", "wall")
    dataset = read_dataset(write(meta=labels, folder="task_2"))
    assert dataset.class_names == ("nodule", "cyst", "wall")
    assert [record.file_name for record in dataset.records] == [
        f"task_{task}/images/{name}.png" for task in (1, 2) for name in "ab"
    ]
    assert len(dataset.records[0].areas) == 2 and 15 + 40 < dataset.records[0].areas[0] < 15 + 60


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            SQUARE.replace("cyst", "wall"),
            r"annotations\.xml: images/a\.png, polygon 0: class 'wall'; expected one of nod",
        ),
        (SQUARE.replace("7.00,3.00", "7.00"), "list of x, y pairs|not a finite number"),
        (SQUARE.replace("7.00,3.00;", ";"), "has the coordinate ''; expected a finite number"),
        ('<box label="cyst" xtl="1" ytl="2" xbr="x" ybr="4"/>', "has the coordinate 'x'"),
        ('<box label="cyst" xtl="1" ytl="2" xbr="1" ybr="4"/>', "box without an extent"),
        ('<ellipse label="cyst" cx="1" cy="2" rx="0" ry="4"/>', "has the radii 0 and 4"),
        ('<mask label="cyst" rle="1, 5" left="40" top="10" width="9" height="6"/>', "not 54 pixels"),
        ('<mask label="cyst" rle="54" left="55" top="10" width="9" height="6"/>', "outside its image of 60×40"),
        ('<mask label="cyst" rle="54" left="5" top="10" width="9"/>', "needs left, top, width and height"),
    ],
)
def test_damaged_shapes_are_named(write, shape, message):
    folder = write(shape)
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [record.file_name for record in read_dataset(folder, on_error="skip").records] == ["images/b.png"]


def test_damaged_files_are_named(write, tmp_path):
    with pytest.raises(InputError, match=r"c\.png: 'c\.png' is neither in"):
        read_dataset(write(name="c.png"))
    with pytest.raises(InputError, match=r"stands in 2 entries \(annotations\.xml: images/a\.png, ann"):
        read_dataset(write(more='<image id="2" name="C:\\x\\a.png" width="60" height="40"/>'))
    with pytest.raises(InputError, match="holds tracks of a video"):
        read_dataset(write(more='<track id="0" label="cyst"/>'))
    file = tmp_path / "annotations.xml"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(InputError, match=r"annotations\.xml: not an XML file"):
        read_dataset(tmp_path)
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>')
    with pytest.raises(InputError, match="holds a document type"):
        read_dataset(tmp_path)
