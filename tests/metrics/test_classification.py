"""Scores of a classifier against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, brier_score_loss, recall_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from mrcnn.metrics.calibration import (
    BINS,
    apply_platt,
    brier,
    expected_calibration_error,
    fit_platt,
    log_loss,
    reliability,
)
from mrcnn.metrics.classification import auc, rates, slice_scores, with_intervals, youden_threshold

cases = st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(0, 3)), min_size=2, max_size=40).filter(
    lambda rows: {True, False} <= {positive for positive, _, weight in rows if weight}
)


@given(cases)
def test_scores_are_scikit_learns(rows):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] / 12 for row in rows])
    weights = np.array([[row[2] for row in rows]], np.float64)
    assert auc(positive, scores, weights)[0] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights[0]))
    assert brier(positive, scores, weights)[0] == pytest.approx(
        brier_score_loss(positive, scores, sample_weight=weights[0])
    )
    called = scores >= 0.5
    found = {name: value[0] for name, value in rates(positive, called, weights).items()}
    assert found["accuracy"] == pytest.approx(accuracy_score(positive, called, sample_weight=weights[0]))
    assert found["sensitivity"] == pytest.approx(recall_score(positive, called, sample_weight=weights[0]))
    assert found["specificity"] == pytest.approx(recall_score(~positive, ~called, sample_weight=weights[0]))


def test_calibration_error_by_hand_and_bins_as_scikit_learns():
    positive = np.array([0, 0, 1, 1, 1, 0], bool)
    probabilities = np.array([0.02, 0.04, 0.55, 0.58, 1.0, 0.93])
    # Bins 0 … 0.1: |0.03 − 0| of 2 images; 0.5 … 0.6: |0.565 − 1| of 2; 0.9 … 1: |0.965 − 0.5| of 2.
    once = np.ones((1, 6))
    assert expected_calibration_error(positive, probabilities, once)[0] == pytest.approx((0.03 + 0.435 + 0.465) / 3)
    # Twice the first image: (0.02 + 0.02 + 0.04) / 3 of 3 of 7.
    twice = np.array([[2.0, 1, 1, 1, 1, 1]])
    assert expected_calibration_error(positive, probabilities, twice)[0] == pytest.approx((0.08 + 0.87 + 0.93) / 7)
    rng = np.random.default_rng(0)
    probabilities = rng.random(200)
    positive = rng.random(200) < probabilities**2
    mean, share, counts = reliability(positive, probabilities)
    expected_share, expected_mean = calibration_curve(positive, probabilities, n_bins=BINS)
    np.testing.assert_allclose(mean, expected_mean)
    np.testing.assert_allclose(share, expected_share)
    assert counts.sum() == 200
    expected = counts @ np.abs(expected_mean - expected_share) / 200
    assert expected_calibration_error(positive, probabilities, np.ones((1, 200)))[0] == pytest.approx(expected)
    assert log_loss(positive, probabilities) == pytest.approx(sklearn_log_loss(positive, probabilities), abs=1e-5)


def test_platts_scaling_is_a_logistic_regression_and_calibrates():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 40, 4000)
    positive = rng.random(4000) < 1 / (1 + np.exp(-(0.05 * logits - 1)))
    slope, intercept = fit_platt(positive, logits)
    fitted = LogisticRegression(C=np.inf).fit(logits[:, None], positive)
    assert slope == pytest.approx(fitted.coef_[0, 0], rel=0.02)
    assert intercept == pytest.approx(fitted.intercept_[0], abs=0.02)
    once = np.ones((1, 4000))
    raw, calibrated = (1 / (1 + np.exp(-x)) for x in (logits, slope * logits + intercept))
    assert expected_calibration_error(positive, calibrated, once)[0] < 0.03
    assert expected_calibration_error(positive, raw, once)[0] > 0.1


def test_platts_targets_by_hand():
    """At the optimum the probabilities have the sums of the targets: 3/4 for two positives, 1/5 for three negatives."""
    positive, logits = np.array([0, 0, 1, 0, 1], bool), np.arange(5.0)
    targets = np.where(positive, 3 / 4, 1 / 5)
    probabilities = apply_platt(logits, *fit_platt(positive, logits))
    assert probabilities.sum() == pytest.approx(targets.sum(), abs=1e-4)
    assert probabilities @ logits == pytest.approx(targets @ logits, abs=1e-4)


@pytest.mark.parametrize(
    ("positive", "logits"),
    [([0, 0, 0], [1, 2, 3]), ([1, 1], [1, 2]), ([0, 0, 1, 1], [4, 3, -3, -4])],
)
def test_nothing_is_calibrated_on_one_kind_or_against_the_order(positive, logits):
    assert fit_platt(np.array(positive, bool), np.array(logits, np.float64)) == (1.0, 0.0)


def test_separable_images_have_a_finite_slope():
    slope, intercept = fit_platt(np.array([0, 0, 1, 1], bool), np.array([-2.0, -1, 1, 2]))
    assert 0 < slope < 10 and abs(intercept) < 1e-3


@pytest.mark.parametrize(
    ("positive", "probabilities", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.8], 0.4),
        ([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], 0.2),  # 1 + 1/2 at 0.2, and 1/2 + 1 at 0.7: the lower misses less
        ([1, 1], [0.1, 0.2], 0.5),
        ([0, 0], [0.1, 0.2], 0.5),
        ([0, 1], [0.3, 0.3], 0.0),
    ],
)
def test_youdens_threshold_by_hand(positive, probabilities, expected):
    assert youden_threshold(np.array(positive, bool), np.array(probabilities)) == pytest.approx(expected)


def test_intervals_are_over_patients_and_hold_the_value():
    rng = np.random.default_rng(2)
    patients = np.repeat([f"p{number}" for number in range(12)], 10)
    positive = rng.random(120) < 0.5
    probabilities = np.clip(0.3 * positive + 0.7 * rng.random(120), 0, 1)
    values, ends = with_intervals(
        lambda weights: slice_scores(positive, probabilities, 0.5, weights), patients, resamples=200, seed=0
    )
    for name, value in values.items():
        if name != "ece":  # resampling makes bins uneven, which only ever adds to it
            assert ends[f"{name}_lo"] <= value <= ends[f"{name}_hi"]
    assert values["auc"] == pytest.approx(roc_auc_score(positive, probabilities))
    one_kind, _ = with_intervals(
        lambda weights: slice_scores(positive | True, probabilities, 0.5, weights), patients, resamples=0, seed=0
    )
    assert "auc" not in one_kind and "specificity" not in one_kind
