"""What is read from drawn nodules: margin, echogenicity, shape, and who said what."""

import json

import numpy as np
import pytest

from experiments.findings import FINDINGS, ROWS
from experiments.findings.echogenicity import echogenicity_points
from experiments.findings.nodules import margin_points, nodules
from mrcnn.detections import Detections
from mrcnn.errors import InputError

NAMES = ("iso", "hypo")
TILTS = (0.0, 0.4, 1.1)


def picture(mask, inside, outside=100):
    image = np.where(mask, inside, outside).astype(np.uint8)[..., None]
    return image


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("radius", [12, 20, 60])
@pytest.mark.parametrize("squeeze", [0.6, 1.0])
def test_ellipses_are_smooth(star, radius, tilt, squeeze):
    points = margin_points(star(3 * radius, radius, tilt=tilt, squeeze=squeeze, offset=(0.3, 0.1)))
    assert (points.low, points.high, points.provenance) == (0, 0, "measured")


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("radius", [20, 60])
@pytest.mark.parametrize(
    "waves",
    [lambda angle: 0.2 * np.cos(5 * angle), lambda angle: 0.3 * np.abs(np.cos(8 * angle)) ** 6],
    ids=["lobulated", "spiculated"],
)
def test_lobules_and_spicules_are_irregular(star, radius, tilt, waves):
    points = margin_points(star(3 * radius, radius, tilt=tilt, waves=waves))
    assert (points.low, points.high) == (2, 3)


def test_a_few_pixels_have_no_margin():
    points = margin_points(np.ones((3, 3), bool))
    assert (points.low, points.high, points.provenance) == (0, 3, "not assessed")


@pytest.mark.parametrize(
    ("inside", "class_name", "low", "high", "provenance"),
    [
        (55, "hypo", 2, 2, "class and measured"),
        (55, "nodulo-hipo", 2, 2, "class and measured"),
        (80, "hypo", 2, 2, "class and measured"),  # the image alone would leave 1 or 2
        (80, "iso", 1, 1, "class and measured"),
        (30, "hypo", 2, 3, "class and measured"),
        (55, "nodule", 2, 2, "measured"),
        (120, "nodule", 1, 1, "measured"),
        (5, "nodule", 0, 3, "measured"),
        (120, "hypo", 1, 3, "class and measured"),  # they disagree: both
        (55, "iso", 1, 2, "class and measured"),
        (5, "very hypoechoic", 3, 3, "class and measured"),
    ],
)
def test_echogenicity(star, inside, class_name, low, high, provenance):
    mask = star(100, 20)
    points = echogenicity_points(picture(mask, inside), mask, np.zeros_like(mask), class_name)
    assert (points.low, points.high, points.provenance) == (low, high, provenance)


def test_without_a_ring_the_class_alone_speaks():
    everything = np.ones((40, 40), bool)
    image = picture(everything, 50)
    assert echogenicity_points(image, everything, ~everything, "iso").provenance == "class"
    assert echogenicity_points(image, everything, ~everything, "nodule").provenance == "not assessed"


def test_the_ring_leaves_other_nodules_out(star):
    mask = star(120, 20)
    others = np.zeros_like(mask)
    others[:, :64] = ~mask[:, :64]  # most of the surroundings, as black as the nodule
    image = picture(mask | others, 50)
    assert echogenicity_points(image, mask, others, "nodule").low == 2
    assert echogenicity_points(image, mask, np.zeros_like(mask), "nodule").low < 2


def test_gray_levels_may_be_floats_of_any_offset(star):
    mask = star(100, 20)
    image = picture(mask, 55).astype(np.float32)[..., 0]
    image[0, 0] = 0
    shifted = echogenicity_points(image * 7 - 1000, mask, np.zeros_like(mask), "nodule")
    assert (shifted.low, shifted.high) == (2, 2)


def test_a_nodule_in_millimeters_with_its_reader(star, detections_of):
    mask = star(120, 40, squeeze=0.7, tilt=np.pi / 2)  # 80 pixels high, 56 wide
    given = {"composition": "solid", "echogenic_foci": ["punctate"]}
    found = nodules(picture(mask, 55), detections_of(mask, class_ids=[2]), NAMES, (0.2, 0.2), given)
    (nodule,) = found["nodules"]
    assert found["unit"] == "mm" and found["notice"] == "Research use only"
    assert nodule["class"] == "hypo" and nodule["longest"] == pytest.approx(16, abs=0.3)
    assert nodule["shape_ratio"] == pytest.approx(1 / 0.7, abs=0.05)
    tirads = nodule["tirads"]
    assert tirads["points"] == [2 + 2 + 3 + 0 + 3] * 2
    assert tirads["level"] == ["TR5", "TR5"] and tirads["advice"] == ["fine-needle aspiration"] * 2
    assert {name: each["provenance"] for name, each in tirads["categories"].items()} == {
        "composition": "reader",
        "echogenicity": "class and measured",
        "shape": "measured",
        "margin": "measured",
        "echogenic_foci": "reader",
    }


def test_without_spacing_sizes_are_pixels_and_nothing_is_advised(star, detections_of):
    mask = star(100, 20)
    found = nodules(picture(mask, 55), detections_of(mask), NAMES)
    assert found["unit"] == "px" and found["nodules"][0]["tirads"]["advice"] is None
    assert found["nodules"][0]["longest"] == pytest.approx(40, abs=1.5)


def test_pixels_that_are_not_square_decide_the_shape(rectangle, detections_of):
    mask = rectangle(60, 60, 10, 20, 40, 45)  # 30 wide, 25 high
    image = picture(mask, 55)
    plain = nodules(image, detections_of(mask), NAMES, (0.1, 0.1))["nodules"][0]
    tall = nodules(image, detections_of(mask), NAMES, (0.2, 0.1))["nodules"][0]
    assert plain["tirads"]["categories"]["shape"]["seen"] == "wider-than-tall"
    assert tall["tirads"]["categories"]["shape"]["seen"] == "taller-than-wide"


def test_one_pixel_and_none(detections_of):
    empty, one = np.zeros((2, 20, 20), bool)
    one[5, 5] = True
    found = nodules(np.zeros((20, 20, 1), np.uint8), detections_of(empty, one), NAMES, (0.1, 0.1))["nodules"]
    assert found[0]["longest"] is None and found[0]["tirads"] is None
    assert found[1]["area"] == 0.01
    json.dumps(found, allow_nan=False)
    assert nodules(np.zeros((20, 20), np.uint8), Detections.empty(20, 20), NAMES)["nodules"] == []


def test_a_readers_words_for_each_nodule(rectangle, detections_of):
    masks = [rectangle(60, 60, 5, 5, 25, 20), rectangle(60, 60, 30, 30, 50, 50)]
    image = np.full((60, 60, 1), 90, np.uint8)
    found = nodules(image, detections_of(*masks), NAMES, None, [{"composition": "cystic"}, None])["nodules"]
    seen = [nodule["tirads"]["categories"]["composition"]["provenance"] for nodule in found]
    assert seen == ["reader", "not assessed"]


@pytest.mark.parametrize("given", [[{}], "solid", {"texture": "solid"}, [{}, 3]])
def test_a_readers_input_that_does_not_fit(rectangle, detections_of, given):
    masks = [rectangle(60, 60, 5, 5, 25, 20), rectangle(60, 60, 30, 30, 50, 50)]
    with pytest.raises(InputError, match="reader_input"):
        nodules(np.zeros((60, 60, 1), np.uint8), detections_of(*masks), NAMES, None, given)


def test_rows_have_the_same_keys(rectangle, detections_of):
    masks = [np.zeros((60, 60), bool), rectangle(60, 60, 30, 30, 50, 50)]
    rows = ROWS["nodules"](nodules(np.zeros((60, 60, 1), np.uint8), detections_of(*masks), NAMES, (0.3, 0.3)))
    assert rows[0].keys() == rows[1].keys()
    assert rows[0]["points_low"] is None and rows[1]["points_low"] == 0


def test_nothing_is_read_by_default():
    assert FINDINGS["none"](np.zeros((4, 4)), Detections.empty(4, 4), NAMES, None, None) == {}
