"""A 3 × 3 convolution that is quick on x86 CPUs."""

from __future__ import annotations

import keras
from keras import layers, ops

from mrcnn.backend import cpu_vectors
from mrcnn.geometry import winograd

MANY_CELLS = 8192
"""Cells of a batch's maps from which the products below beat the backend's kernels with the wide layers' channels."""
MANY_CHANNELS = 128
"""Channels from which Winograd's transforms cost less than they save with AVX-512."""


@keras.saving.register_keras_serializable("mrcnn")
class Convolution3x3(layers.Conv2D):
    """`Conv2D` with a 3 × 3 kernel, stride 1 and zeros around.

    oneDNN's convolution in float32 reaches the arithmetic's limit of an x86 CPU, so on large maps fewer
    multiplications are faster: half the time forward at 128 × 128 cells and 256 channels. Its code for the kernel's
    gradient is slow with AVX2 alone, three to four times the forward pass, so that is made of nine matrix products,
    one for each of the kernel's cells. Elsewhere this is `Conv2D`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **{"kernel_size": 3, "padding": "same", **kwargs})

    def convolution_op(self, inputs, kernel):
        images, height, width, channels = inputs.shape
        many = None not in (height, width) and (images or 1) * height * width >= MANY_CELLS
        vectors = cpu_vectors() if many and self.compute_dtype == "float32" else None
        if vectors == "avx2" or (vectors == "avx512" and channels >= MANY_CHANNELS):
            # A custom gradient takes tensors, not variables.
            return convolve(inputs, ops.copy(kernel))
        return super().convolution_op(inputs, kernel)


@ops.custom_gradient
def convolve(inputs, kernel):
    """(B, H, W, C) with a kernel (3, 3, C, D), zeros around: (B, H, W, D). The gradients are those of `ops.conv`."""

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        turned = ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))
        return winograd.convolve(upstream, turned), _kernel_gradient(inputs, upstream)

    return winograd.convolve(inputs, kernel), gradient


def _kernel_gradient(inputs, upstream):
    _, height, width, channels = inputs.shape
    padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    flat = ops.reshape(upstream, (-1, upstream.shape[-1]))
    cells = [
        ops.matmul(ops.transpose(ops.reshape(padded[:, y : y + height, x : x + width], (-1, channels))), flat)
        for y in range(3)
        for x in range(3)
    ]
    return ops.reshape(ops.stack(cells), (3, 3, channels, upstream.shape[-1]))
