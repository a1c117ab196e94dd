"""Fold frozen batch normalization into the convolution before it.

Frozen batch normalization is one scale and one offset per channel, and the scale can be multiplied into the kernel.
A separate layer passes over the whole map once more, in float32 even under mixed precision.

The layers have the weights and the class names of the Keras layers that they replace, because weight files refer to
both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from mrcnn.backend import Tensor, add_bias, ops
from mrcnn.models.layers.depthwise import depthwise_convolve


@keras.saving.register_keras_serializable("mrcnn")
class Conv2D(layers.Conv2D):
    """Convolution without activation that applies the scale and offset of a folded batch normalization; see `fold`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The kernel is multiplied in float32 and cast afterwards.
        super().__init__(*args, autocast=False, **kwargs)
        self.affine: Callable | None = None

    def call(self, inputs: Tensor) -> Tensor:
        inputs = ops.cast(inputs, self.compute_dtype)
        kernel, shift = self.kernel, self.bias
        if self.affine is not None:
            scale, offset = self.affine()
            kernel, shift = kernel * scale, offset if shift is None else offset + shift * scale
        outputs = self.convolution_op(inputs, ops.cast(kernel, self.compute_dtype))
        return outputs if shift is None else add_bias(outputs, ops.cast(shift, self.compute_dtype))


@keras.saving.register_keras_serializable("mrcnn")
class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Depthwise convolution with padding "same" and without bias; as `Conv2D` above, with fast gradients."""

    def __init__(self, kernel_size: int | tuple[int, int], strides: int | tuple[int, int] = 1, **kwargs: Any) -> None:
        super().__init__(kernel_size, strides, **{"padding": "same", "use_bias": False, "autocast": False, **kwargs})
        self.affine: Callable | None = None

    def call(self, inputs: Tensor) -> Tensor:
        inputs, kernel = ops.cast(inputs, self.compute_dtype), ops.convert_to_tensor(self.kernel)
        if self.affine is None:
            return depthwise_convolve(inputs, ops.cast(kernel, self.compute_dtype), self.strides[0])
        scale, offset = self.affine()
        kernel = ops.cast(kernel * ops.reshape(scale, (1, 1, -1, 1)), self.compute_dtype)
        return add_bias(depthwise_convolve(inputs, kernel, self.strides[0]), ops.cast(offset, self.compute_dtype))


@keras.saving.register_keras_serializable("mrcnn")
class BatchNormalization(layers.BatchNormalization):
    """Frozen batch normalization; see `fold`."""

    folded = False

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        return inputs if self.folded else super().call(inputs, training=False, mask=mask)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the scale and the offset of each channel, float32."""
        # `build` sets the weights.
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)  # pyright: ignore[reportOptionalOperand]
        return scale, self.beta - self.moving_mean * scale


def fold(model: keras.Model) -> None:
    """Fold each batch normalization of `model` that follows a convolution of this module into that convolution."""
    for norm in model.layers:
        if isinstance(norm, BatchNormalization):
            # One input, not a list.
            convolution = norm.input._keras_history.operation  # pyright: ignore[reportAttributeAccessIssue]
            if isinstance(convolution, Conv2D | DepthwiseConv2D):
                # A bound method, because Keras tracks a layer in an attribute as a sublayer.
                convolution.affine, norm.folded = norm.affine, True
