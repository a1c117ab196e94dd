import numpy as np
import pytest
from keras import ops

from mrcnn.geometry.matching import take_rows
from mrcnn.models.mask_rcnn.rpn import build_proposal_head, flatten_levels, outputs_at


@pytest.fixture
def scene(tiny):
    """Return a configuration, its head with random biases, noise levels and a permutation of all anchors."""
    config = tiny(image_size=(64, 96))
    rng = np.random.default_rng(0)
    head = build_proposal_head(config, config.fpn_channels)
    for variable in head.weights:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    levels = [rng.normal(size=(2, *grid, config.fpn_channels)).astype(np.float32) for grid in config.grid_sizes]
    count = sum(rows * columns for rows, columns in config.grid_sizes) * config.anchors_per_cell
    index = np.stack([rng.permutation(count) for _ in range(2)]).astype(np.int32)
    return config, head, levels, index


def whole(head, levels, index, config):
    logits, deltas = flatten_levels([head(level) for level in levels], config)
    return take_rows(logits, index), take_rows(deltas, index)


def test_the_same_outputs_at_every_anchor_of_every_level(scene):
    config, head, levels, index = scene
    for found, expected in zip(
        outputs_at(head, levels, index, config), whole(head, levels, index, config), strict=True
    ):
        np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-4)


def test_the_same_gradient_in_the_levels(scene, gradients):
    config, head, levels, index = scene
    index = index[:, :50]
    weights = np.random.default_rng(1).normal(size=(2, 50, 5)).astype(np.float32)

    def score(outputs):
        logits, deltas = outputs
        return ops.sum(logits * weights[..., 0]) + ops.sum(deltas * weights[..., 1:])

    found = gradients(lambda *levels: score(outputs_at(head, levels, index, config)), *levels)
    expected = gradients(lambda *levels: score(whole(head, levels, index, config)), *levels)
    for each, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(each, other, atol=1e-3)
    assert any(np.abs(each).max() > 0 for each in expected)


def test_the_same_gradient_in_the_heads_weights(scene):
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("reads the variables' gradients from TensorFlow's tape")
    import tensorflow as tf

    config, head, levels, index = scene
    index = index[:, :50]

    def of(outputs):
        with tf.GradientTape() as tape:
            logits, deltas = outputs(head, levels, index, config)
            score = ops.sum(ops.square(logits)) + ops.sum(ops.square(deltas))
        return tape.gradient(score, head.trainable_weights)

    for found, expected in zip(of(outputs_at), of(whole), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
