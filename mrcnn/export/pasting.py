"""Convert boxes and masks to image pixels in a graph, as `mrcnn.models.mask_rcnn.model` does on the host.

`ops` is `keras.ops`, or a `mrcnn.export.onnx_graph.Graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnn.backend import Tensor

THRESHOLD = 0.5


def to_image(boxes: Tensor, scale: Tensor, height: Tensor, width: Tensor, ops: Any) -> Tensor:
    """Convert boxes (B, N, 4) from network pixels to pixels of an image of `height` × `width`, and clip them."""
    limits = ops.cast(ops.stack([width, height, width, height], axis=0), "float32")
    return ops.minimum(ops.maximum(boxes / ops.cast(scale, "float32"), 0.0), limits)


def paste(masks: Tensor, boxes: Tensor, height: Tensor, width: Tensor, cells: int, ops: Any) -> Tensor:
    """Paste masks into the image, as `mrcnn.geometry.masks.paste_crop`.

    Masks are pasted one by one, because the float32 products need four times the memory of the uint8 masks.

    Args:
        masks: (B, N, cells, cells) probabilities; a mask of zeros stays empty.
        boxes: (B, N, 4) in image pixels.
        height: height of the image, an int scalar.
        width: width of the image, an int scalar.
        cells: side of a mask.
        ops: `keras.ops` or a graph.

    Returns:
        (B, N, height, width) uint8, 0 or 1.
    """
    count = ops.shape(boxes)[1]
    shape = (ops.shape(boxes)[0], count, height, width)
    left, top, right, bottom = (
        ops.cast(ops.reshape(ops.take(boxes, side, axis=2), (-1, 1)), "float64") for side in range(4)
    )

    def pasted(rows_columns_and_mask: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        rows, columns, mask = rows_columns_and_mask
        product = ops.matmul(ops.matmul(rows, mask), ops.transpose(columns, (1, 0)))
        return ops.cast(product >= THRESHOLD, "uint8")

    def all_pasted() -> Tensor:
        rows = _pixel_weights(top, bottom, height, cells, ops)
        columns = _pixel_weights(left, right, width, cells, ops)
        flat = ops.reshape(masks, (-1, cells, cells))
        return ops.reshape(ops.map(pasted, (rows, columns, flat)), shape)

    # A loop without iterations has no result shape.
    return ops.cond(count > 0, all_pasted, lambda: ops.zeros(shape, dtype="uint8"))


def _pixel_weights(low: Tensor, high: Tensor, pixels: Tensor, cells: int, ops: Any) -> Tensor:
    """Compute bilinear weights (M, pixels, cells) float32 of masks over [low, high], (M, 1) float64, at pixel centers.

    The weights of pixels outside the box are 0.
    """
    first, last = ops.ceil(low - 0.5), ops.floor(high - 0.5) + 1.0
    # A box thinner than a pixel covers the pixel at its center line.
    thin, middle = last <= first, ops.floor((low + high) / 2.0)
    first, last = ops.where(thin, middle, first), ops.where(thin, middle + 1.0, last)
    end = ops.cast(pixels, "float64")
    first = ops.minimum(ops.maximum(first, 0.0), end - 1.0)
    last = ops.minimum(ops.maximum(last, first + 1.0), end)

    index = ops.expand_dims(ops.arange(pixels, dtype="float64"), 0)
    position = (index + 0.5 - low) / ops.maximum(high - low, 1e-3) * cells - 0.5
    position = ops.expand_dims(ops.minimum(ops.maximum(position, 0.0), cells - 1.0), -1)
    weights = ops.maximum(1.0 - ops.abs(position - np.arange(cells, dtype=np.float64)), 0.0)
    inside = ops.logical_and(index >= first, index < last)
    return ops.cast(ops.where(ops.expand_dims(inside, -1), weights, 0.0), "float32")
