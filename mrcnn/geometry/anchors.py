"""The anchor grid: the boxes that the region proposal network starts from."""

from __future__ import annotations

import numpy as np

from mrcnn.config import STRIDES, ModelConfig


def anchor_shapes(sizes, ratios) -> np.ndarray:
    """Width and height (sizes × ratios, 2) of anchors of area size² and height/width = ratio."""
    return np.array(
        [(size / np.sqrt(ratio), size * np.sqrt(ratio)) for size in sizes for ratio in ratios], dtype=np.float32
    )


def anchor_grid(config: ModelConfig) -> np.ndarray:
    """All anchors (A, 4) float32 in network pixels, ordered level, row, column, size, ratio.

    Each is centred on its cell: cell (0, 0) of stride 4 has its centre at pixel (2, 2).
    """
    levels = []
    for stride, cells, sizes in zip(STRIDES, config.grid_sizes, config.anchor_sizes, strict=True):
        half = anchor_shapes(sizes, config.anchor_ratios) / 2
        centres = (np.arange(cells, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        xy = np.stack([x, y], axis=-1)[:, :, None, :]
        levels.append(np.concatenate([xy - half, xy + half], axis=-1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)
