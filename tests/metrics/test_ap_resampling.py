import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrcnn.metrics import coco_ap
from mrcnn.metrics.coco_ap import resampled_average_precisions
from mrcnn.metrics.evaluator import Evaluator

CLASS_NAMES = ("iso", "hypo", "cyst")
IMAGES = 6


@pytest.fixture(scope="module")
def evaluated(random_pairs):
    pairs = random_pairs(11, IMAGES)
    evaluator = Evaluator(CLASS_NAMES)
    for pair in pairs:
        evaluator.add(*pair)
    truth, results = evaluator.coco_ground_truth(), evaluator.coco_results()
    return pairs, {
        prefix: coco_ap.evaluate(truth, results, kind) for prefix, kind in (("mask", "segm"), ("box", "bbox"))
    }


def named(prefix):
    return [f"{prefix}_{name}" for name in ("ap", "ap10", "ap50", "ap75")]


@settings(max_examples=25)
@given(weights=st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES))
def test_weights_are_repeated_images(evaluated, weights):
    """COCOeval itself on the images, each as often as its weight says."""
    pairs, scores = evaluated
    repeated = Evaluator(CLASS_NAMES)
    for pair, times in zip(pairs, weights, strict=True):
        for _ in range(times):
            repeated.add(*pair)
    expected = repeated.summary(0.5)
    for prefix in ("mask", "box"):
        found = resampled_average_precisions(scores[prefix], np.array([weights], float), prefix)
        for name in named(prefix):
            assert found[name][0] == pytest.approx(expected.get(name, np.nan), nan_ok=True)


def test_rows_are_independent(evaluated):
    _, scores = evaluated
    weights = np.random.default_rng(0).integers(0, 4, (7, IMAGES)).astype(float)
    together = resampled_average_precisions(scores["mask"], weights, "mask")
    for row, one in enumerate(weights):
        alone = resampled_average_precisions(scores["mask"], one[None], "mask")
        assert [together[name][row] for name in named("mask")] == pytest.approx(
            [alone[name][0] for name in named("mask")], nan_ok=True
        )


def test_no_instance_left(evaluated):
    _, scores = evaluated
    found = resampled_average_precisions(scores["mask"], np.zeros((1, IMAGES)), "mask")
    assert all(np.isnan(value[0]) for value in found.values())
