import math

import numpy as np
import pytest

from mrcnn.metrics.evaluator import Evaluator


def test_intervals_cover_the_value(random_pairs):
    evaluator = Evaluator(("iso", "hypo", "cyst"))
    for pair in random_pairs(8, images=30):
        evaluator.add(*pair)
    found, ends = evaluator.summary(0.5), evaluator.intervals(0.5, resamples=300)
    main = ("mask_ap", "mask_ap10", "mask_ap50", "mask_ap75", "box_ap", "box_ap50", "dice", "dice/iso", "iou", "hd95")
    for name in (*main, "precision", "recall", "f1", "froc", "detection_rate"):
        assert ends[f"{name}_lo"] < found[name] < ends[f"{name}_hi"]
    assert not any(math.isnan(value) for value in ends.values())
    assert not [name for name in ends if name.startswith("hd95_mm")]
    assert ends == evaluator.intervals(0.5, resamples=300)
    assert ends != evaluator.intervals(0.5, resamples=300, seed=1)


def test_interval_values_are_those_of_repeated_images(random_pairs, monkeypatch):
    """What is computed for a resample is the summary of an evaluator that got its images as often as drawn."""
    pairs = random_pairs(9, images=6)
    evaluator = Evaluator(("iso", "hypo", "cyst"))
    for pair in pairs:
        evaluator.add(*pair)
    weights = np.array([[2, 0, 1, 1, 0, 3]], float)
    repeated = Evaluator(("iso", "hypo", "cyst"))
    for pair, times in zip(pairs, weights[0].astype(int), strict=True):
        for _ in range(times):
            repeated.add(*pair)
    expected = repeated.summary(0.5)
    seen = {}
    monkeypatch.setattr(
        "mrcnn.metrics.intervals.bootstrap_intervals", lambda statistic, *_: seen.update(statistic(weights)) or {}
    )
    evaluator.intervals(0.5)
    assert {name: value[0] for name, value in seen.items() if not np.isnan(value[0])} == pytest.approx(
        {name: expected[name] for name in seen if name in expected}
    )


def test_one_patient_has_no_interval(rectangles, make_sample, make_detections):
    evaluator = Evaluator(("iso", "hypo"))
    for number in range(3):
        truth = rectangles((0, 0, 5 + number, 5))
        evaluator.add(make_sample(truth, patient_id="only"), make_detections(truth, [0.9]))
    assert evaluator.intervals(0.5) == {}
    assert evaluator.summary(0.5)["dice"] == 1
