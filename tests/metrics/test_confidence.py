import numpy as np
import pytest

from mrcnn.metrics.operating_point import GRID, best_threshold


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
