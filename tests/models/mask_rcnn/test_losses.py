import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.models.mask_rcnn import losses

RNG = np.random.default_rng(0)


def test_objectness_is_binary_cross_entropy_of_the_samples():
    logits = RNG.normal(0, 3, (2, 6)).astype(np.float32)
    positive = (RNG.random((2, 6)) < 0.5).astype(np.float32)
    used = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]], np.float32)
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(positive[used > 0], logits[used > 0])
    assert float(losses.objectness(logits, positive, used)) == pytest.approx(float(expected), rel=1e-5)


def test_classification_is_cross_entropy_of_the_samples():
    logits = RNG.normal(0, 2, (2, 5, 3)).astype(np.float32)
    classes = RNG.integers(0, 3, (2, 5)).astype(np.int32)
    used = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 1, 1]], np.float32)
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(classes[used > 0], logits[used > 0])
    assert float(losses.classification(logits, classes, used)) == pytest.approx(float(expected), rel=1e-5)


def test_class_weights_are_a_weighted_mean():
    logits = np.log(np.array([[[0.5, 0.5], [0.2, 0.8]]], np.float32))
    value = losses.classification(logits, np.array([[0, 1]]), np.ones((1, 2), np.float32), class_weights=(1.0, 3.0))
    assert float(value) == pytest.approx((-np.log(0.5) - 3 * np.log(0.8)) / 4, rel=1e-5)


def test_focal_by_hand():
    logits = np.log(np.array([[[0.9, 0.1], [0.3, 0.7]]], np.float32))
    value = losses.classification(logits, np.array([[0, 0]]), np.ones((1, 2), np.float32), focal_gamma=2.0)
    assert float(value) == pytest.approx((0.1**2 * -np.log(0.9) + 0.7**2 * -np.log(0.3)) / 2, rel=1e-4)


def test_smooth_l1_joins_smoothly():
    beta = 1 / 9
    values = ops.convert_to_numpy(losses.smooth_l1(np.array([0, beta / 2, beta, -2.0], np.float32), beta))
    np.testing.assert_allclose(values, [0, beta / 8, beta / 2, 2 - beta / 2], rtol=1e-5)


def test_box_regression_divides_by_the_number_of_samples():
    deltas = np.ones((1, 2, 4), np.float32)
    value = losses.box_regression(deltas, 0 * deltas, np.array([[1.0, 0.0]]), np.ones((1, 8), np.float32), beta=1.0)
    assert float(value) == pytest.approx(4 * 0.5 / 8)


def test_mask_loss_by_hand():
    logits = np.zeros((1, 2, 2, 2), np.float32)
    value = losses.mask_cross_entropy(logits, 0 * logits, np.array([[1.0, 0.0]], np.float32))
    assert float(value) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_loss_is_zero_without_samples_and_finite_for_extreme_logits(size):
    logits, none = size * np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32)
    assert float(losses.objectness(logits, none, none)) == 0
    assert np.isfinite(float(losses.objectness(logits, none, none + 1)))
    wide = size * RNG.normal(size=(1, 3, 4)).astype(np.float32)
    assert float(losses.classification(wide, np.zeros((1, 3), np.int32), none)) == 0
    assert np.isfinite(float(losses.classification(wide, np.zeros((1, 3), np.int32), none + 1, focal_gamma=2.0)))
    assert float(losses.box_regression(wide, wide, none, none, 1.0)) == 0
