"""Convolutions and the frozen batch norms behind them, computed as one.

A batch norm that keeps its values is a factor and a sum for each channel, and the factor belongs into the kernel. As
layers of their own both pass over the whole map, in float32 under mixed precision too.

The layers keep their weights, so files fit as before, and are named as what they stand in for, because weight files go
by the names of classes.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers, ops

from mrcnn.backend import add_bias


@keras.saving.register_keras_serializable("mrcnn")
class Conv2D(layers.Conv2D):
    """A convolution without activation; see `fold`."""

    def __init__(self, *args, **kwargs):
        # Its kernel is multiplied in float32, then cast.
        super().__init__(*args, autocast=False, **kwargs)
        self.affine: Callable | None = None

    def call(self, inputs):
        inputs = ops.cast(inputs, self.compute_dtype)
        kernel, shift = self.kernel, self.bias
        if self.affine is not None:
            scale, offset = self.affine()
            kernel, shift = kernel * scale, offset if shift is None else offset + shift * scale
        outputs = self.convolution_op(inputs, ops.cast(kernel, self.compute_dtype))
        return outputs if shift is None else add_bias(outputs, ops.cast(shift, self.compute_dtype))


@keras.saving.register_keras_serializable("mrcnn")
class BatchNormalization(layers.BatchNormalization):
    """A batch norm with kept values; see `fold`."""

    folded = False

    def call(self, inputs, training=None, mask=None):
        return inputs if self.folded else super().call(inputs, training=False, mask=mask)

    def affine(self):
        """Factor and sum of each channel, float32."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale


def fold(model: keras.Model) -> None:
    """Each batch norm of `model` that follows a `Conv2D` of here is computed with it."""
    for norm in model.layers:
        if isinstance(norm, BatchNormalization):
            before = norm.input._keras_history.operation
            if isinstance(before, Conv2D):
                # A bound method: as an attribute the layer would count as a part of the convolution.
                before.affine, norm.folded = norm.affine, True
