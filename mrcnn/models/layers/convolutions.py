"""A 3 × 3 convolution that is quick on x86 CPUs."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from mrcnn.backend import cpu_vectors, xla_jit
from mrcnn.models.layers import convolutions as winograd

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
        return winograd.winograd_convolve(upstream, turned), _kernel_gradient(inputs, upstream)

    return winograd.winograd_convolve(inputs, kernel), gradient


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


TILE = 4
"""Side of the square of outputs that one tile of 6 × 6 inputs gives."""

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]],
    np.float32,
) / np.float32(24)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)


def winograd_convolve(inputs, kernel):
    """The convolution of (B, H, W, C) with (3, 3, C, D), stride 1, zeros around: (B, H, W, D).

    Equal to `ops.conv` but for rounding: about 1e-5 of the values' spread in float32.
    """
    _, height, width, _ = inputs.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    products = ops.matmul(xla_jit(_of_inputs)(inputs), _of_kernel(kernel))
    outputs = xla_jit(_to_outputs, rows=rows, columns=columns)(products)
    return outputs[:, :height, :width]


def _of_inputs(inputs):
    """(B, H, W, C) as tiles (36, B · tiles, C), transformed."""
    _, height, width, channels = inputs.shape
    rows, columns = height + -height % TILE, width + -width % TILE
    padded = ops.pad(inputs, ((0, 0), (1, rows - height + 1), (1, columns - width + 1), (0, 0)))
    across = [padded[:, i : i + rows - TILE + 1 : TILE] for i in range(6)]
    cells = []
    for row in (_combine(factors, across) for factors in _INPUT):
        along = [row[:, :, i : i + columns - TILE + 1 : TILE] for i in range(6)]
        cells += [ops.reshape(_combine(factors, along), (-1, channels)) for factors in _INPUT]
    return ops.stack(cells)


def _of_kernel(kernel):
    """(3, 3, C, D) as (36, C, D), transformed."""
    both = np.kron(_KERNEL, _KERNEL)
    return ops.reshape(ops.matmul(both, ops.reshape(kernel, (9, -1))), (36, *kernel.shape[2:]))


def _to_outputs(products, rows: int, columns: int):
    """(36, B · rows · columns, D) of tiles back to (B, 4 rows, 4 columns, D)."""
    width = products.shape[-1]
    cells = ops.reshape(products, (6, 6, -1, rows, columns, width))
    across = (_combine(factors, [cells[i] for i in range(6)]) for factors in _OUTPUT)
    tiles = [ops.stack([_combine(factors, [row[i] for i in range(6)]) for factors in _OUTPUT], 3) for row in across]
    return ops.reshape(ops.stack(tiles, 2), (-1, TILE * rows, TILE * columns, width))


def _combine(factors, values: list):
    """Σ factor · value, without the products by 0 and 1."""
    total = None
    for factor, value in zip(factors.tolist(), values, strict=True):
        if factor:
            term = value if factor == 1 else value * factor
            total = term if total is None else total + term
    return total
