"""Sizes against shapes worked by hand, and against rules that hold for any mask."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.findings.measures import main_component, measure

masks = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))).filter(np.any)
sides = st.floats(0.05, 3)


def test_one_pixel_is_an_area():
    one = measure(np.ones((1, 1), bool), (1.0, 1.0))
    assert (one.height, one.width, one.area) == (1, 1, 1)
    assert one.longest == pytest.approx(math.sqrt(2))
    assert one.perpendicular == pytest.approx(math.sqrt(2))


def test_rectangle(rectangle):
    found = measure(rectangle(20, 30, 5, 4, 25, 9))  # 20 × 5 pixels
    diagonal = math.hypot(20, 5)
    assert (found.height, found.width, found.area) == (5, 20, 100)
    assert found.longest == pytest.approx(diagonal)
    # Through a corner, at a right angle to the diagonal, the chord meets the long side 5 · 5 / 20 before its end.
    assert found.perpendicular == pytest.approx(5 * diagonal / 20)


def test_rectangle_of_pixels_that_are_not_square(rectangle):
    found = measure(rectangle(20, 30, 5, 4, 25, 9), (0.4, 0.1))  # 2 mm high, 2 mm wide
    assert (found.height, found.width, found.area) == pytest.approx((2, 2, 4))
    assert (found.longest, found.perpendicular) == pytest.approx((math.sqrt(8), math.sqrt(8)))


@pytest.mark.parametrize("tilt", [0, 0.3, 0.8, 1.3, 2.5])
def test_ellipse_at_any_tilt(star, tilt):
    found = measure(star(200, 80, tilt=tilt, squeeze=0.5), (0.1, 0.1))
    assert found.longest == pytest.approx(16, abs=0.15)
    assert found.perpendicular == pytest.approx(8, abs=0.2)
    assert found.area == pytest.approx(math.pi * 8 * 4, rel=0.01)
    assert found.width == pytest.approx(16 * math.hypot(math.cos(tilt), 0.5 * math.sin(tilt)), abs=0.15)


def test_a_circle_seen_with_tall_pixels_is_a_circle():
    y, x = np.mgrid[:100, :200] + 0.5
    found = measure(np.hypot((y - 50) * 0.2, (x - 100) * 0.1) < 8, (0.2, 0.1))
    for length in (found.longest, found.perpendicular, found.height, found.width):
        assert length == pytest.approx(16, abs=0.4)


def test_specks_and_holes_do_not_count(rectangle):
    mask = rectangle(30, 30, 5, 5, 15, 15)
    mask[8:10, 8:10] = False
    mask[29, 29] = True
    assert main_component(mask).sum() == 100
    assert measure(mask) == measure(rectangle(30, 30, 5, 5, 15, 15))


@given(masks, sides, sides)
def test_rules_of_any_mask(mask, row, column):
    found = measure(mask, (row, column))
    slack = 1 + 1e-9
    assert max(found.height, found.width) <= found.longest * slack
    assert found.longest <= math.hypot(found.height, found.width) * slack
    assert found.perpendicular <= found.longest * slack
    # The hull lies in the box of longest × its extent across, which is at most twice the longest chord across.
    assert found.area <= 2 * found.longest * found.perpendicular * slack
    assert found.height * found.width * slack >= found.area


@given(masks, st.floats(0.1, 3), st.integers(0, 3))
def test_turning_and_scaling(mask, scale, turns):
    mask = main_component(mask)  # of pieces of one size the first is measured, and a turn changes the order
    plain, changed = measure(mask), measure(np.rot90(mask, turns), (scale, scale))
    assert changed.longest == pytest.approx(plain.longest * scale)
    assert changed.area == pytest.approx(plain.area * scale**2)


@given(masks)
def test_longest_against_all_pairs_of_pixel_corners(mask):
    rows, columns = np.nonzero(main_component(mask))
    corners = np.concatenate([np.stack([rows + dy, columns + dx], 1) for dy in (0, 1) for dx in (0, 1)])
    pairs = np.hypot(*(corners[:, None] - corners[None]).transpose(2, 0, 1))
    assert measure(mask).longest == pytest.approx(pairs.max())
