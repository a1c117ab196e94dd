"""Confusion matrix, curves over the confidence and calibration of detections, against scikit-learn and by hand."""

import numpy as np
import pytest

from mrcnn.detections import Detections
from mrcnn.metrics.evaluator import Evaluator
from mrcnn.metrics.operating_point import confidence_curves

NAMES = ("iso", "hypo", "cyst")


def test_matrix_by_hand(rectangles, make_sample, make_detections):
    evaluator = Evaluator(NAMES)
    # iso found; hypo shown as cyst; cyst missed; one false iso, and one hypo below the threshold.
    truth = rectangles((0, 0, 4, 4), (6, 0, 10, 4), (12, 0, 16, 4))
    found = rectangles((0, 0, 4, 4), (6, 0, 10, 4), (0, 12, 4, 16), (12, 0, 16, 4))
    evaluator.add(make_sample(truth, [1, 2, 3]), make_detections(found, [0.9, 0.8, 0.7, 0.2], [1, 3, 1, 2]))
    evaluator.add(make_sample(rectangles()), make_detections(rectangles((0, 0, 3, 3)), [0.6], [2]))
    assert evaluator.confusion_matrix(0.5).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]]
    assert evaluator.confusion_matrix(0.1).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0]]


def test_an_instance_goes_to_its_own_class_first(rectangles, make_sample, make_detections):
    evaluator = Evaluator(NAMES)
    square = rectangles((0, 0, 6, 6))
    evaluator.add(make_sample(square, [1]), make_detections(np.concatenate([square, square]), [0.9, 0.8], [2, 1]))
    assert evaluator.confusion_matrix(0.5)[:, :2].tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]


def test_matrix_is_that_of_scikit_learn_where_each_instance_has_one_detection(rectangles, make_sample, make_detections):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    evaluator, truth, found = Evaluator(NAMES), [], []
    for _ in range(40):
        masks = rectangles((0, 0, 5, 5), (8, 8, 15, 15))
        true_ids, found_ids = rng.integers(1, 4, 2), rng.integers(1, 4, 2)
        evaluator.add(make_sample(masks, true_ids), make_detections(masks, rng.uniform(0.6, 1, 2), found_ids))
        truth += true_ids.tolist()
        found += found_ids.tolist()
    matrix = evaluator.confusion_matrix(0.5)
    assert matrix[:3, :3].tolist() == metrics.confusion_matrix(truth, found).tolist()
    assert not matrix[3].any() and not matrix[:, 3].any()


def test_matrix_and_scores_agree(evaluated):
    evaluator = evaluated(2, images=12)
    matrix, scores = evaluator.confusion_matrix(0.4), evaluator.summary(0.4)
    assert matrix.diagonal()[:3].sum() == scores["true_positives"]
    assert matrix[:, :3].sum() == scores["detections"] and matrix[:3].sum() == scores["instances"]
    for position, name in enumerate(NAMES):
        hits = matrix[position, position]
        assert scores[f"recall/{name}"] == pytest.approx(hits / matrix[position].sum())
        assert scores[f"precision/{name}"] == pytest.approx(hits / matrix[:, position].sum())


def test_curves_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    scores, hits = rng.uniform(0, 1, 60), rng.random(60) < 0.6
    precision, recall, thresholds = metrics.precision_recall_curve(hits, scores)
    # scikit-learn knows no missed instances: as many as there are hits.
    found = confidence_curves(scores, hits, int(hits.sum()), thresholds)
    assert found["precision"] == pytest.approx(precision[:-1]) and found["recall"] == pytest.approx(recall[:-1])
    assert found["f1"] == pytest.approx(2 * precision[:-1] * recall[:-1] / (precision[:-1] + recall[:-1]), nan_ok=True)


def test_curves_at_the_operating_point_are_its_scores(evaluated):
    evaluator = evaluated(4, images=10)
    curves, scores = evaluator.confidence_curves(), evaluator.summary(0.5)
    at = int(np.flatnonzero(np.isclose(curves["threshold"], 0.5))[0])
    assert [curves[name][at] for name in ("precision", "recall", "f1")] == pytest.approx(
        [scores[name] for name in ("precision", "recall", "f1")]
    )


def test_calibration_error_of_detections_by_hand(rectangles, make_sample, make_detections):
    evaluator = Evaluator(("iso",))
    # Bin 0.9–1: a hit at 0.95. Bin 0.6–0.7: false at 0.65. |0.95 − 1| / 2 + |0.65 − 0| / 2.
    found = rectangles((0, 0, 4, 4), (10, 10, 14, 14))
    evaluator.add(make_sample(found[:1]), make_detections(found, [0.95, 0.65]))
    assert evaluator.summary(0.5)["detection_ece"] == pytest.approx(0.35, abs=1e-6)
    mean, share, counts = evaluator.reliability()
    assert (mean.round(2).tolist(), share.tolist(), counts.tolist()) == ([0.65, 0.95], [0, 1], [1, 1])
    empty = Evaluator(("iso",))
    empty.add(make_sample(found[:1]), Detections.empty(20, 20))
    assert "detection_ece" not in empty.summary(0.5)


def test_every_score_that_is_no_count_has_an_interval(evaluated):
    evaluator = evaluated(7, images=10)
    scores, ends = evaluator.summary(0.5), evaluator.intervals(0.5, resamples=50)
    without = {name for name in scores if f"{name}_lo" not in ends}
    assert all(float(scores[name]).is_integer() for name in without)
    assert {"mask_ap50/iso", "mask_ap_large", "recall/cyst", "froc_1", "detection_ece"}.isdisjoint(without)


def test_subset_is_the_evaluator_of_those_images(random_pairs, evaluated):
    pairs = random_pairs(8, images=8)
    assert evaluated(pairs).subset([0, 3, 6]).summary(0.5) == evaluated(pairs[::3]).summary(0.5)
