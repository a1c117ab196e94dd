import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.phantoms.shapes import Outline, waves

X = np.linspace(-10, 10, 201, dtype=np.float32)[None]
Z = np.linspace(0, 16, 161, dtype=np.float32)[:, None]


def test_distance_to_a_circle_is_radius_subtracted():
    distance = Outline(1.0, 7.0, 3.0, 3.0).distance(X, Z, far=2.5)
    expected = np.minimum(np.hypot(X - 1, Z - 7) - 3, 2.5)
    np.testing.assert_allclose(distance, expected, atol=1e-4)


@given(
    st.floats(-12, 12), st.floats(-3, 18), st.floats(0.5, 6), st.floats(0.5, 6), st.floats(-2, 2), st.integers(0, 99)
)
def test_inside_never_leaves_the_reach(x, z, half_width, half_height, tilt, seed):
    outline = Outline(x, z, half_width, half_height, tilt, waves(np.random.default_rng(seed), 2, 6, 0.25))
    inside = outline.distance(X, Z) < 0
    assert not inside[np.hypot(X - x, Z - z) > outline.reach + 1e-3].any()


def test_tilt_turns_clockwise_on_the_screen():
    distance = Outline(0, 8, 5, 1, tilt=math.pi / 4).distance(X, Z)
    below_right, above_right = distance[110, 130], distance[50, 130]  # (3, 11) and (3, 5)
    assert below_right < 0 < above_right


def test_waves_sum_to_their_strength():
    terms = waves(np.random.default_rng(0), 3, 7, 0.2)
    assert [order for order, _, _ in terms] == [3, 4, 5, 6, 7]
    assert sum(amplitude for _, amplitude, _ in terms) == pytest.approx(0.2)


def test_an_outline_out_of_sight_is_far_everywhere():
    assert (Outline(50, 50, 2, 2).distance(X, Z, far=3.0) == 3.0).all()
