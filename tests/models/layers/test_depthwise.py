"""Compare the gradients of the depthwise convolution with those of TensorFlow."""

import keras
import numpy as np
import pytest

from mrcnn.models.layers import depthwise

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the gradients are TensorFlow's")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.02)])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("height", "width", "stride"), [(12, 8, 1), (12, 8, 2), (9, 12, 2), (2, 2, 2)])
def test_gradients_equal_tensorflow(monkeypatch, height, width, stride, size, dtype, tolerance):
    import tensorflow as tf

    monkeypatch.setattr(depthwise, "cpu_vectors", lambda: "avx512")
    rng = np.random.default_rng(0)
    inputs, kernel = rng.normal(size=(2, height, width, 5)), rng.normal(size=(size, size, 5, 1))
    upstream = rng.normal(size=(2, -(-height // stride), -(-width // stride), 5))

    def gradients(function, dtype):
        values = [tf.constant(value, dtype) for value in (inputs, kernel)]
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(function(*values) * tf.constant(upstream, dtype))
        return [tf.cast(each, "float32").numpy() for each in tape.gradient(loss, values)]

    found = gradients(lambda *values: depthwise.depthwise_convolve(*values, stride), dtype)
    expected = gradients(lambda *values: tf.nn.depthwise_conv2d(*values, (1, stride, stride, 1), "SAME"), "float64")
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())
