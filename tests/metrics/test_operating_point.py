"""Operating point and the choice of the threshold, against results by hand."""

import numpy as np
import pytest

from mrcnn.metrics.operating_point import GRID, best_threshold, operating_point


def once(hits, false, missed):
    return {
        name: value[0]
        for name, value in operating_point(
            np.array(hits), np.array(false), np.array(missed), np.ones((1, len(hits)))
        ).items()
    }


def test_by_hand():
    # Image 0: both instances found. Image 1: one of two found, one false. Image 2: no instance, two false.
    scores = once([2, 1, 0], [0, 1, 2], [0, 1, 0])
    assert scores["precision"] == pytest.approx(3 / 6)
    assert scores["recall"] == pytest.approx(3 / 4)
    assert scores["f1"] == pytest.approx(2 * 0.5 * 0.75 / (0.5 + 0.75))
    assert scores["detection_rate"] == pytest.approx(1 / 2)


def test_no_detection():
    scores = once([0], [0], [3])
    assert np.isnan(scores["precision"])
    assert scores["recall"] == scores["f1"] == scores["detection_rate"] == 0


def test_no_instance():
    scores = once([0], [2], [0])
    assert scores["precision"] == scores["f1"] == 0
    assert np.isnan(scores["recall"])
    assert np.isnan(scores["detection_rate"])


@pytest.mark.parametrize("images", [0, 1])
def test_nothing(images):
    assert all(np.isnan(value) for value in once([0] * images, [0] * images, [0] * images).values())


def test_a_weight_of_two_is_the_image_twice():
    weighted = operating_point(np.array([1, 2]), np.array([3, 0]), np.array([0, 5]), np.array([[2.0, 1.0], [0.0, 1.0]]))
    assert [weighted[name][0] for name in weighted] == list(once([1, 1, 2], [3, 3, 0], [0, 0, 5]).values())
    assert [weighted[name][1] for name in weighted] == list(once([2], [0], [5]).values())


def values(**at):
    return np.array([at.get(f"c{round(100 * confidence):02d}", 0.1) for confidence in GRID])


def test_grid():
    assert (GRID[0], GRID[9], GRID[-1], len(GRID)) == (0.05, 0.5, 0.95, 19)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ({"c30": 0.8}, 0.3),
        ({"c95": 0.8}, 0.95),
        ({"c30": 0.8, "c35": 0.8, "c40": 0.8}, 0.35),
        ({"c30": 0.8, "c35": 0.8, "c40": 0.8, "c45": 0.8}, 0.35),
        ({"c10": 0.8, "c30": 0.8, "c35": 0.8, "c40": 0.8}, 0.35),
        ({"c10": 0.8, "c80": 0.8}, 0.1),
        ({"c10": np.nan, "c80": 0.8}, 0.8),
        ({}, 0.5),
    ],
)
def test_middle_of_the_longest_plateau(at, expected):
    assert best_threshold(values(**at)) == expected


def test_nothing_defined():
    assert best_threshold(np.full(19, np.nan)) == 0.5
