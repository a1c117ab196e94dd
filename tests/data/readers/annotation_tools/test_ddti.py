"""The reader of DDTI as published."""

import json

import numpy as np
import pytest
from matplotlib.path import Path as MplPath

from mrcnn.data import read_dataset
from mrcnn.errors import InputError

OUTLINE = [(8.5, 5.5), (30.5, 9.5), (26.5, 30.5), (10.5, 24.5)]


def svg_of(*outlines, **fields):
    regions = [{"points": [{"x": x, "y": y} for x, y in outline], "annotation": {}, "regionType": "freehand"} | fields
               for outline in outlines]  # fmt: skip
    return json.dumps(regions)


@pytest.fixture
def write(tmp_path, save_images):
    """Writes the cases 1 and 2: two images, of which marks outline the given ones, and one image."""

    def write(marks, name="images", suffix=".jpg"):
        save_images(tmp_path / name, *(f"{image}{suffix}" for image in ("1_1", "1_2", "2_1")))
        for case, of_case in marks.items():
            text = "".join(f"<mark>\n<image>{image}</image><svg>{svg}</svg></mark>" for image, svg in of_case)
            (tmp_path / name / f"{case}.xml").write_text(
                f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<case>\n<number>{case}</number><age>71</age>'
                f"<sex>F</sex><composition>solid</composition><tirads>4a</tirads><reportbacaf/>{text}</case>"
            )
        return tmp_path

    return write


def test_marks_are_nodules_of_the_images_of_a_case(write):
    shifted = [(x + 28, y) for x, y in OUTLINE]
    folder = write({1: [("1", svg_of(OUTLINE, shifted)), ("2", ""), ("2", svg_of(OUTLINE))], 2: [("1", "")]})
    dataset = read_dataset(folder)
    assert dataset.class_names == ("nodule",)
    assert [(each.file_name, each.patient_id, each.label) for each in dataset.records] == [
        ("images/1_1.jpg", "1", "TI-RADS 4a"), ("images/1_2.jpg", "1", "TI-RADS 4a")
    ]  # fmt: skip
    rows, columns = np.mgrid[:40, :60] + 0.5
    drawn = MplPath(OUTLINE).contains_points(np.stack([columns.ravel(), rows.ravel()], 1)).reshape(40, 60)
    assert len(dataset[0].masks) == 2
    assert np.count_nonzero(dataset[0].masks[0] ^ drawn) <= 8 and abs(dataset[0].masks[0].sum() - 385) <= 8
    np.testing.assert_array_equal(dataset[0].masks[1][:, 28:], dataset[0].masks[0][:, :-28])
    assert "have no entry with annotations and are left out: images/2_1.jpg" in " ".join(dataset.warnings)


@pytest.mark.parametrize(
    ("image", "svg", "message"),
    [
        ("1", "[{", r"images/1\.xml, image 1: its svg is not JSON"),
        ("1", '{"points": 1}', "its svg is not a list of regions"),
        ("1", '[{"points": [[1, 2]]}]', r"image 1, region 0: has no list of points with x and y"),
        ("1", '[{"points": [{"x": 1}]}]', "has the coordinate 'None'; expected a finite number"),
        ("1", svg_of(OUTLINE[:2]), "region 0: .*fewer than 3|at least 3"),
        ("1", svg_of(OUTLINE, regionType="ellipse"), "has regionType 'ellipse'; expected freehand"),
        ("1", svg_of([(x + 99, y) for x, y in OUTLINE]), "far outside its image of 60×40 pixels"),
        ("3", svg_of(OUTLINE), r"image 3: no image of the name '1_3' in"),
    ],
)
def test_damaged_marks_are_named(write, image, svg, message):
    folder = write({1: [(image, svg)], 2: [("1", svg_of(OUTLINE))]})
    with pytest.raises(InputError, match=message):
        read_dataset(folder)
    assert [each.file_name for each in read_dataset(folder, on_error="skip").records] == ["images/2_1.jpg"]


def test_a_damaged_file_is_named(write):
    folder = write({1: [("1", svg_of(OUTLINE))], 2: [("1", svg_of(OUTLINE))]})
    file = folder / "images/1.xml"
    file.write_text(file.read_text()[:-9])
    with pytest.raises(InputError, match=r"1\.xml: not an XML file"):
        read_dataset(folder)
