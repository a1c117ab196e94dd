"""3 × 3 convolution by Winograd's minimal filtering, F(4 × 4, 3 × 3): a quarter of the multiplications.

Source: Lavin & Gray 2016 (Fast Algorithms for Convolutional Neural Networks), section 4.
"""

from __future__ import annotations

import numpy as np
from keras import ops

from mrcnn.backend import fused

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


def convolve(inputs, kernel):
    """The convolution of (B, H, W, C) with (3, 3, C, D), stride 1, zeros around: (B, H, W, D).

    Equal to `ops.conv` but for rounding: about 1e-5 of the values' spread in float32.
    """
    _, height, width, _ = inputs.shape
    rows, columns = -(-height // TILE), -(-width // TILE)
    products = ops.matmul(fused(_of_inputs)(inputs), _of_kernel(kernel))
    outputs = fused(_to_outputs, rows=rows, columns=columns)(products)
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
