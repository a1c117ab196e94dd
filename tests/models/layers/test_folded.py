"""Compare the folded ResNet with that of keras.applications."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.config import ModelConfig
from mrcnn.models.backbones import build_backbone
from mrcnn.models.backbones.resnet import CLASSIFIERS

SIDE = 64


@pytest.fixture(scope="module")
def pair():
    """Return the folded ResNet-50 and that of keras.applications with the same random weights and statistics."""
    config = ModelConfig(class_names=("a",), image_size=SIDE, backbone="resnet50", norm="frozen_batch")
    ours = build_backbone(config)
    make, names = CLASSIFIERS["resnet50"]
    whole = make(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    theirs = keras.Model(whole.input, [whole.get_layer(name).output for name in names])
    rng = np.random.default_rng(0)
    for variable in theirs.variables:
        value = np.asarray(variable)
        if variable.name == "moving_variance":
            value = rng.uniform(0.5, 2, value.shape)
        elif variable.name != "kernel":
            value = value + rng.normal(0, 0.3, value.shape)
        variable.assign(value)
    for layer in filter(lambda layer: layer.weights, theirs.layers):
        ours.get_layer(layer.name).set_weights(layer.get_weights())
    return ours, theirs


def test_maps_equal_keras_applications(pair):
    image = np.random.default_rng(1).normal(0, 30, (2, SIDE, SIDE, 3)).astype(np.float32)
    for ours, theirs in zip(*(model(image, training=False) for model in pair), strict=True):
        theirs = np.asarray(theirs)
        np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-5 * np.abs(theirs).max())


def test_training_mode_keeps_the_statistics(pair):
    ours, _ = pair
    image = np.random.default_rng(2).normal(0, 30, (2, SIDE, SIDE, 3)).astype(np.float32)
    before = [np.array(variable) for variable in ours.non_trainable_variables]
    learning, judging = (np.asarray(ours(image, training=mode)[-1]) for mode in (True, False))
    np.testing.assert_array_equal(learning, judging)
    for variable, value in zip(ours.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable), value)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the tape is TensorFlow's")
def test_gradients_equal_keras_applications(pair):
    import tensorflow as tf

    image = np.random.default_rng(3).normal(0, 30, (1, SIDE, SIDE, 3)).astype(np.float32)
    found = []
    for model in pair:
        convolutions = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        with tf.GradientTape() as tape:
            loss = sum(ops.mean(ops.square(level)) for level in model(image, training=False))
        found.append(tape.gradient(loss, [kernel.value for kernel in convolutions]))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_error_under_mixed_precision_is_not_larger(pair):
    ours, theirs = pair
    image = np.random.default_rng(4).normal(0, 30, (2, SIDE, SIDE, 3)).astype(np.float32)
    outside = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        config = ModelConfig(class_names=("a",), image_size=SIDE, backbone="resnet50", norm="frozen_batch")
        mixed = build_backbone(config)
        plain = keras.models.clone_model(theirs, clone_function=lambda layer: type(layer).from_config({
            **layer.get_config(), "dtype": "mixed_bfloat16"}))  # fmt: skip
    finally:
        keras.config.set_dtype_policy(outside)
    mixed.set_weights(ours.get_weights())
    plain.set_weights(theirs.get_weights())
    true = [np.asarray(level) for level in theirs(image, training=False)]

    def error(model):
        levels = [np.asarray(ops.cast(level, "float32")) for level in model(image, training=False)]
        return np.array([np.abs(a - b).mean() / np.abs(b).mean() for a, b in zip(levels, true, strict=True)])

    assert (error(mixed) <= 1.5 * error(plain)).all()
