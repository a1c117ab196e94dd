"""The one place that knows which backend runs below Keras."""

from __future__ import annotations

from collections.abc import Callable

import keras


def fused(function: Callable) -> Callable:
    """Compile a pure function of tensors with XLA where the rest of the graph is not.

    On TensorFlow the model runs without XLA, because its own convolutions are faster on a CPU; but chains of small
    element-wise steps over large arrays (suppression, matching, pooling) are several times faster when fused. JAX
    compiles the whole step anyway.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True, reduce_retracing=False, autograph=False)

    def call(*args):
        # Inside an eager call there is nothing to gain from compiling for each new shape.
        return function(*args) if tf.executing_eagerly() else compiled(*args)

    return call
