import numpy as np
import pytest

from mrcnn.metrics.froc import RATES, froc_curve, sensitivities

# Two images, three instances, from the best score down: hit, false, hit, false, false, hit.
SCORES = np.array([0.4, 0.9, 0.8, 0.7, 0.6, 0.5])
HITS = np.array([True, True, False, True, False, False])
IMAGE = np.array([0, 0, 0, 1, 1, 1])
INSTANCES = np.array([2, 1])


def test_curve_by_hand():
    false, sensitivity = froc_curve(SCORES, HITS, images=2, instances=3)
    assert false == pytest.approx([0, 0, 0.5, 0.5, 1, 1.5, 1.5])
    assert sensitivity == pytest.approx(np.array([0, 1, 1, 2, 2, 2, 3]) / 3)


def test_rates_by_hand():
    found = sensitivities(SCORES, HITS, IMAGE, INSTANCES, np.ones((1, 2)))
    assert RATES == (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    assert found[0] == pytest.approx(np.array([1, 1, 2, 2, 3, 3, 3]) / 3)


def test_equal_scores_come_in_together():
    scores, hits = np.array([0.5, 0.5]), np.array([True, False])
    false, sensitivity = froc_curve(scores, hits, images=1, instances=1)
    assert (false.tolist(), sensitivity.tolist()) == ([0, 1], [0, 1])
    found = sensitivities(scores, hits, np.zeros(2, int), np.ones(1, int), np.ones((1, 1)))
    assert found[0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_images_without_instances_count():
    found = sensitivities(SCORES, HITS, IMAGE, np.array([2, 1, 0, 0, 0, 0]), np.ones((1, 6)))
    # Six images allow 0.75, 1.5, 3 … false positives at rates of 1/8, 1/4, 1/2.
    assert found[0] == pytest.approx(np.array([1, 2, 3, 3, 3, 3, 3]) / 3)


def test_weights_are_repeated_images():
    # The second image twice, the first not at all: one instance each, hit at 0.7, false at 0.6 and 0.5.
    found = sensitivities(SCORES, HITS, IMAGE, INSTANCES, np.array([[0.0, 2.0]]))
    assert found[0].tolist() == [1] * 7


def test_nothing_detected():
    nothing = np.zeros(0), np.zeros(0, bool), np.zeros(0, int)
    assert sensitivities(*nothing, INSTANCES, np.ones((1, 2)))[0].tolist() == [0] * 7
    assert [axis.tolist() for axis in froc_curve(*nothing[:2], images=2, instances=3)] == [[0], [0]]


def test_no_instances():
    assert np.isnan(sensitivities(SCORES, ~HITS & False, IMAGE, np.zeros(2, int), np.ones((1, 2)))).all()
    assert [len(axis) for axis in froc_curve(SCORES, ~HITS & False, images=2, instances=0)] == [0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_read_off_the_curve(seed):
    rng = np.random.default_rng(seed)
    scores, hits = rng.integers(0, 20, 60) / 20, rng.random(60) < 0.4
    image, instances = rng.integers(0, 8, 60), np.full(8, 5)
    false, sensitivity = froc_curve(scores, hits, images=8, instances=40)
    expected = [max(s for f, s in zip(false, sensitivity, strict=True) if f <= rate) for rate in RATES]
    assert sensitivities(scores, hits, image, instances, np.ones((1, 8)))[0] == pytest.approx(expected)
