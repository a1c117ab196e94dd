import numpy as np
import pytest

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator
from mrcnn.metrics.significance import paired_differences


def evaluator(shifts):
    """Of one square an image, found `shift` pixels beside it."""
    found = Evaluator(("iso",))
    for number, shift in enumerate(shifts):
        truth, guess = np.zeros((2, 1, 40, 40), bool)
        truth[0, 10:20, 10:20] = True
        guess[0, 10:20, 10 + shift : 20 + shift] = True
        image = np.zeros((40, 40, 1), np.uint8)
        sample = Sample(image, truth, np.ones(1, np.int32), f"p{number}", f"{number}.png")
        box = np.array([[10 + shift, 10, 20 + shift, 20]], np.float32)
        found.add(sample, Detections(box, np.full(1, 0.9, np.float32), np.ones(1, np.int32), guess))
    return found


def test_the_same_model_differs_by_nothing():
    one = evaluator([0, 1, 2, 3, 4, 5])
    for each in paired_differences(one, one, (0.5, 0.5), resamples=100).values():
        assert (each.value, each.low, each.high, each.p) == (0, 0, 0, 1)


def test_a_model_that_is_better_everywhere_has_the_least_p():
    found = paired_differences(evaluator([4] * 6), evaluator([1] * 6), (0.5, 0.5), resamples=99)["dice"]
    assert found.value == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3)
    assert found.p == pytest.approx(2 / 100)


def test_p_is_twice_the_share_on_the_other_side_of_zero():
    first, second = evaluator([3, 3, 3, 0, 3, 3]), evaluator([1, 2, 3, 4, 2, 3])
    found = paired_differences(first, second, (0.5, 0.5), resamples=400, seed=3)["dice"]
    rng = np.random.default_rng(3)
    gains = np.array([0.2, 0.1, 0, -0.4, 0.1, 0])
    drawn = np.concatenate([rng.multinomial(6, np.full(6, 1 / 6), 50) @ gains for _ in range(8)])
    drawn = np.where(np.abs(drawn) < 1e-9, 0, drawn)
    lesser = min((drawn <= 0).sum(), (drawn >= 0).sum())
    # Equal gains leave rounding on either side of zero, a resample or two.
    assert found.p == pytest.approx(min(1, 2 * (lesser + 1) / 401), abs=0.03)


def test_without_resamples_there_is_neither_interval_nor_p():
    found = paired_differences(evaluator([1, 2]), evaluator([2, 3]), (0.5, 0.5), resamples=0)["dice"]
    assert found.value == pytest.approx(-0.1)
    assert np.isnan([found.low, found.high, found.p]).all()
