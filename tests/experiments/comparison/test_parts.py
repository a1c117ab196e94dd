import itertools
import time
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.comparison.cases import select_cases
from experiments.comparison.measurements import Measurement, coco_to_detections, group_by_image, seconds_per_image
from experiments.comparison.paired_difference import paired_difference, scores
from experiments.evaluation.page import ENVIRONMENT
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator


def measured(shifts, patients):
    """Of a square an image, found `shift` pixels beside it."""
    found = Evaluator(("any",))
    for number, (shift, patient) in enumerate(zip(shifts, patients, strict=True)):
        truth, guess = np.zeros((2, 1, 40, 40), bool)
        truth[0, 10:20, 10:20] = guess[0, 10:20, 10 + shift : 20 + shift] = True
        box = np.array([[10 + shift, 10, 20 + shift, 20]], np.float32)
        detections = Detections(box, np.full(1, 0.9, np.float32), np.ones(1, np.int32), guess)
        sample = Sample(np.zeros((40, 40, 1), np.uint8), truth, np.ones(1, np.int32), patient, f"{number}.png")
        found.add(sample, detections)
    return Measurement(found, found, 0.5, "asked")


def test_with_five_patients_there_are_intervals_and_p_values_with_four_none():
    for patients, enough in (("aabcde", True), ("aabcdd", False)):
        first, second = measured([4] * 6, patients), measured([1] * 6, patients)
        dice = paired_difference(first, second)["dice"]
        assert dice.value == pytest.approx(0.3)
        assert ("dice_lo" in scores(first.by_class, 0.5)) is enough
        if enough:
            assert (dice.p, dice.test) == (pytest.approx(2 / 2**5), "permutation")
            assert paired_difference(first, second)["iou"].test == "bootstrap"
        else:
            assert (dice.low, dice.high, dice.p, dice.test) == (None, None, None, None)


def test_results_of_coco_come_back_as_the_detections_that_they_were():
    kept = measured([3], "a").by_class.coco_results()
    found = coco_to_detections(group_by_image(kept)[1], 40, 40)
    assert found.boxes.tolist() == [[13, 10, 23, 20]]
    assert found.masks.sum() == 100 and found.masks[0, 10:20, 13:23].all()
    assert len(coco_to_detections([], 40, 40)) == 0


def test_cases_are_shown_once_each():
    dice = {"A": [0.9, 0.1, 0.5, None, 0.8, 0.7, None], "B": [0.9, 0.2, 0.6, 0.9, 0.3, 0.7, None]}
    found = select_cases(dice)
    assert found == [("most different", 3), ("most different", 4), ("worst", 1), ("worst", 2), ("best", 0), ("best", 5)]


def test_speed_is_measured_in_turns():
    calls = []

    def finder(name, seconds):
        def find(images):
            calls.append(name)
            time.sleep(seconds)

        return find

    found = seconds_per_image({"slow": finder("slow", 0.02), "quick": finder("quick", 0.001)}, [np.zeros(1)] * 2)
    assert 0.02 <= found["slow"] < 1 and found["quick"] < found["slow"]
    assert max(len(list(same)) for _, same in itertools.groupby(calls[4:])) == 2


MACROS = ENVIRONMENT.get_template("macros.html").module


def drawing_of(html):
    return ElementTree.fromstring(html).find("svg")


def test_a_dot_is_at_the_scores_of_its_patient():
    drawing = drawing_of(MACROS.scatter([("p&1", 0.5, 0.75)], ("A", "<B>")))
    (dot,) = drawing.iter("circle")
    area = next(drawing.iter("rect"))
    x, y, side = (float(area.get(name)) for name in ("x", "y", "width"))
    assert float(dot.get("cx")) == pytest.approx(x + 0.5 * side)
    assert float(dot.get("cy")) == pytest.approx(y + 0.25 * side)
    assert dot.find("title").text == "patient p&1: A 0.500, <B> 0.750"


def test_bars_are_around_zero():
    drawing = drawing_of(MACROS.intervals([("Dice", -0.1, 0.1, 0.2)], ("A", "B")))
    (bar,) = (line for line in drawing.iter("line") if line.get("class") == "bar")
    (zero,) = (line for line in drawing.iter("line") if line.get("class") == "guide")
    left, right, middle = float(bar.get("x1")), float(bar.get("x2")), float(zero.get("x1"))
    assert right - middle == pytest.approx(2 * (middle - left), abs=0.2)
    assert MACROS.intervals([], ("A", "B")).strip() == ""
    assert "nan" not in MACROS.intervals([("Dice", 0.0, 0.0, 0.0)], ("A", "B"))
