"""Which lungs were found, and how often."""

import json

import numpy as np
import pytest

from experiments.findings import ROWS, SUMMARIES
from experiments.findings.lungs import lungs
from mrcnn.detections import Detections
from mrcnn.errors import InputError

NAMES = ("left_lung", "right_lung")
IMAGE = np.zeros((40, 60, 1), np.uint8)


@pytest.fixture
def sides(rectangle):
    """Masks of the patient's left and right lung."""
    return rectangle(40, 60, 35, 5, 55, 35), rectangle(40, 60, 5, 5, 25, 35)


def test_both(sides, detections_of):
    found = lungs(IMAGE, detections_of(*sides, class_ids=[1, 2]), NAMES, (0.5, 2.0))
    assert (found["found"], found["sides"], found["unit"]) == ("both", ["left", "right"], "mm²")
    assert found["left"]["area"] == 600
    assert found["right"]["share_of_image"] == pytest.approx(0.25)
    assert found["notice"] == "Research use only"
    json.dumps(found, allow_nan=False)


def test_two_detections_of_a_side_are_one_lung(sides, detections_of):
    found = lungs(IMAGE, detections_of(*sides, class_ids=[2, 2]), NAMES)
    assert (found["found"], found["sides"], found["unit"]) == ("one", ["right"], "px")
    assert found["left"] is None and found["right"]["area"] == 1200


def test_none_and_an_empty_mask(detections_of):
    assert lungs(IMAGE, Detections.empty(40, 60), NAMES)["found"] == "none"
    assert lungs(IMAGE, detections_of(np.zeros((40, 60), bool)), NAMES)["found"] == "none"


def test_rates_over_films(sides, detections_of):
    both, one = detections_of(*sides, class_ids=[1, 2]), detections_of(sides[0], class_ids=[1])
    of = [lungs(IMAGE, each, NAMES) for each in (both, both, one, Detections.empty(40, 60))]
    assert SUMMARIES["lungs"](of) == {
        "detection_rate_both": 0.5,
        "detection_rate_one": 0.25,
        "detection_rate_none": 0.25,
        "detection_images_both": 2,
        "detection_images_one": 1,
        "detection_images_none": 1,
    }
    assert SUMMARIES["lungs"]([]) == {}
    assert len({tuple(ROWS["lungs"](each)[0]) for each in of}) == 1


def test_classes_without_sides(sides, detections_of):
    with pytest.raises(InputError, match="left_lung"):
        lungs(IMAGE, detections_of(*sides), ("lung", "heart"))
