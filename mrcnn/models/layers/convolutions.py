"""3 × 3 convolution with Winograd's algorithm, fast on x86 CPUs.

Source: Lavin & Gray 2016, Fast Algorithms for Convolutional Neural Networks, F(4 × 4, 3 × 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import layers

from mrcnn.backend import Tensor, cpu_vectors, ops, xla_jit

MIN_CELLS = 8192
"""Smallest number of cells of a batch for which Winograd's products are faster than the kernels of the backend."""
MIN_CHANNELS = 128
"""Smallest number of channels for which Winograd's transforms cost less than they save with AVX-512."""


@keras.saving.register_keras_serializable("mrcnn")
class Convolution3x3(layers.Conv2D):
    """`Conv2D` with a 3 × 3 kernel, stride 1 and zero padding.

    oneDNN's float32 convolution reaches the arithmetic limit of an x86 CPU, so on large maps fewer multiplications
    are faster: half the time of the forward pass at 128 × 128 cells and 256 channels. With AVX2 its gradient of the
    kernel takes three to four times the forward pass; nine matrix products, one per kernel cell, replace it. On other
    devices and small maps this layer is `Conv2D`.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(filters, **{"kernel_size": 3, "padding": "same", **kwargs})

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        images, height, width, channels = inputs.shape
        many = None not in (height, width) and (images or 1) * height * width >= MIN_CELLS
        vectors = cpu_vectors() if many and self.compute_dtype == "float32" else None
        if vectors == "avx2" or (vectors == "avx512" and channels >= MIN_CHANNELS):
            # A custom gradient takes tensors, not variables.
            return convolve(inputs, ops.copy(kernel))
        return super().convolution_op(inputs, kernel)


@ops.custom_gradient
def convolve(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (B, H, W, C) with (3, 3, C, D) and zero padding to (B, H, W, D), with the gradients of `ops.conv`."""

    def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
        upstream = arguments[0] if upstream is None else upstream
        rotated = ops.transpose(ops.flip(kernel, axis=(0, 1)), (0, 1, 3, 2))
        return winograd_convolve(upstream, rotated), _kernel_gradient(inputs, upstream)

    return winograd_convolve(inputs, kernel), gradient


def _kernel_gradient(inputs: Tensor, upstream: Tensor) -> Tensor:
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
"""Side of the square of outputs of one tile of 6 × 6 inputs."""

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


def winograd_convolve(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (B, H, W, C) with (3, 3, C, D), stride 1 and zero padding, to (B, H, W, D).

    The result differs from `ops.conv` by rounding, about 1e-5 of the standard deviation in float32.
    """
    _, height, width, _ = inputs.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    products = ops.matmul(xla_jit(_transform_inputs)(inputs), _transform_kernel(kernel))
    outputs = xla_jit(_transform_outputs, rows=rows, columns=columns)(products)
    return outputs[:, :height, :width]


def _transform_inputs(inputs: Tensor) -> Tensor:
    """Transform inputs (B, H, W, C) to tiles (36, B · tiles, C)."""
    _, height, width, channels = inputs.shape
    rows, columns = height + -height % TILE, width + -width % TILE
    padded = ops.pad(inputs, ((0, 0), (1, rows - height + 1), (1, columns - width + 1), (0, 0)))
    across = [padded[:, i : i + rows - TILE + 1 : TILE] for i in range(6)]
    cells = []
    for row in (_combine(factors, across) for factors in _INPUT):
        along = [row[:, :, i : i + columns - TILE + 1 : TILE] for i in range(6)]
        cells += [ops.reshape(_combine(factors, along), (-1, channels)) for factors in _INPUT]
    return ops.stack(cells)


def _transform_kernel(kernel: Tensor) -> Tensor:
    """Transform a kernel (3, 3, C, D) to (36, C, D)."""
    both = np.kron(_KERNEL, _KERNEL)
    return ops.reshape(ops.matmul(both, ops.reshape(kernel, (9, -1))), (36, *kernel.shape[2:]))


def _transform_outputs(products: Tensor, rows: int, columns: int) -> Tensor:
    """Transform products (36, B · rows · columns, D) of the tiles to outputs (B, 4 · rows, 4 · columns, D)."""
    width = products.shape[-1]
    cells = ops.reshape(products, (6, 6, -1, rows, columns, width))
    across = (_combine(factors, [cells[i] for i in range(6)]) for factors in _OUTPUT)
    tiles = [ops.stack([_combine(factors, [row[i] for i in range(6)]) for factors in _OUTPUT], 3) for row in across]
    return ops.reshape(ops.stack(tiles, 2), (-1, TILE * rows, TILE * columns, width))


def _combine(factors: np.ndarray, values: Iterable[Tensor]) -> Tensor:
    """Return Σ factor · value without multiplications by 0 and 1."""
    total: Tensor = None
    for factor, value in zip(factors.tolist(), values, strict=True):
        if factor:
            term = value if factor == 1 else value * factor
            total = term if total is None else total + term
    return total
