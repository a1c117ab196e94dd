"""Folds pooled, and two models compared on the same images."""

import numpy as np
import pytest

from mrcnn.detections import Detections
from mrcnn.metrics.evaluator import Evaluator
from mrcnn.metrics.significance import paired_differences

NAMES = ("iso", "hypo", "cyst")


def evaluated(pairs):
    evaluator = Evaluator(NAMES)
    for pair in pairs:
        evaluator.add(*pair)
    return evaluator


def test_a_pool_is_one_evaluator_of_all_images(random_pairs):
    pairs = random_pairs(1, images=12)
    pool = Evaluator.pooled([evaluated(pairs[:5]), evaluated(pairs[5:])])
    whole = evaluated(pairs)
    assert pool.summary(0.4) == whole.summary(0.4)
    assert pool.best_confidence() == whole.best_confidence()
    assert pool.intervals(0.4, resamples=30) == whole.intervals(0.4, resamples=30)


def test_each_part_of_a_pool_stands_at_its_own_threshold(random_pairs):
    """What is below a part's threshold counts for nothing at the working point, as if it had not been found."""
    pairs = random_pairs(2, images=12)
    pool = Evaluator.pooled([evaluated(pairs[:5]), evaluated(pairs[5:])], [0.3, 0.7])
    cut = [(sample, found.above(0.3 if number < 5 else 0.7)) for number, (sample, found) in enumerate(pairs)]
    expected, found = evaluated(cut).summary(0.0), pool.summary(0.5)
    for name in ("dice", "iou", "hd95", "precision", "recall", "f1", "detections", "misses", "detection_rate"):
        assert found[name] == expected[name]
    # AP looks at all detections, whatever the threshold.
    assert found["mask_ap"] == evaluated(pairs).summary(0.5)["mask_ap"]
    assert [row["detections"] for row in pool.per_case(0.5)] == [len(each) for _, each in cut]


def test_a_difference_is_that_of_the_scores_and_of_a_model_with_itself_nothing(random_pairs):
    pairs = random_pairs(3, images=20)
    first = evaluated(pairs)
    # The second model finds what the first does, without the poorer half.
    second = evaluated([(sample, found.above(0.5)) for sample, found in pairs])
    for name, each in paired_differences(first, first, (0.3, 0.3), resamples=50).items():
        assert (each.value, each.low, each.high) == (0, 0, 0), name
    found = paired_differences(first, second, (0.1, 0.1), resamples=200)
    before, after = first.summary(0.1), second.summary(0.1)
    for name in ("mask_ap", "mask_ap50", "dice", "precision", "recall", "froc"):
        assert found[name].value == pytest.approx(after[name] - before[name])
        assert found[name].low <= found[name].value <= found[name].high
    assert found["recall"].high <= 0


def test_other_images_are_no_pair(random_pairs):
    pairs = random_pairs(4, images=4)
    with pytest.raises(ValueError, match="expected the same ones in the same order"):
        paired_differences(evaluated(pairs), evaluated(pairs[::-1]), (0.5, 0.5))


def test_the_interval_of_a_difference_is_drawn_for_both_at_once(random_pairs):
    """Two equally good models that fail on the same patients: their difference is certain, their scores are not."""
    pairs = random_pairs(5, images=30)
    shifted = [
        (sample, Detections(found.boxes, found.scores * np.float32(0.999), found.class_ids, found.masks))
        for sample, found in pairs
    ]
    first, second = evaluated(pairs), evaluated(shifted)
    (each,) = [paired_differences(first, second, (0.5, 0.499), resamples=100)["mask_ap50"]]
    ends = first.intervals(0.5, resamples=100)
    assert each.high - each.low < 0.1 * (ends["mask_ap50_hi"] - ends["mask_ap50_lo"])
