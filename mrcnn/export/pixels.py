"""Preprocess images in a graph, as `mrcnn.data.transforms.encoding.prepare_image` does on the host.

`ops` is `keras.ops`, or a `mrcnn.export.onnx_graph.Graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mrcnn.backend import Tensor
from mrcnn.config import ModelConfig, pixel_normalization
from mrcnn.data.transforms.normalization import (
    CAFFE_MEAN,
    LUMINANCE,
    PERCENTILES,
    SYMMETRIC_MEAN,
    SYMMETRIC_SCALE,
)

WEIGHT_STEPS = 2.0**22
"""Pillow's resampling weights are integer multiples of the inverse of this number."""


def prepare(images: Tensor, config: ModelConfig, ops: Any) -> tuple[Tensor, Tensor]:
    """Convert images of one size to the network's input.

    Args:
        images: (B, H, W, C) float32 with C of 1, 3 or `config.channels`. An image with only integers from 0 to 255 is
            treated as 8-bit and rounded when it is resized.
        config: input of the network.
        ops: `keras.ops` or a graph.

    Returns:
        (B, config.channels, H, W) float32, and the scale (network pixels per image pixel), a float64 scalar.
    """
    rows_out, columns_out = config.input_shape
    height, width = (ops.cast(ops.shape(images)[axis], "float64") for axis in (1, 2))
    eight_bit = _is_eight_bit(images, ops)
    if config.normalisation == "imagenet":
        images = _to_byte_range(images, eight_bit, ops)
    if config.channels == 1:
        images, eight_bit = _luminance(images, eight_bit, ops)

    scale = ops.minimum(rows_out / height, columns_out / width)
    # The small addend prevents that rounding removes a pixel of a side that fits exactly.
    inner_height, inner_width = (ops.maximum(ops.floor(side * scale + 1e-6), 1.0) for side in (height, width))
    columns = _resize_weights(width, inner_width, scale, columns_out, ops)
    rows = _resize_weights(height, inner_height, scale, rows_out, ops)
    # As Pillow: columns first, with 8-bit rounding after each pass. Exact sums are required for the same rounding.
    planes = ops.cast(ops.transpose(images, (0, 3, 1, 2)), "float64")
    planes = ops.matmul(planes, ops.transpose(columns, (1, 0)))
    planes = ops.where(eight_bit, ops.floor(planes + 0.5), planes)
    planes = ops.matmul(rows, planes)
    planes = ops.cast(ops.where(eight_bit, ops.floor(planes + 0.5), planes), "float32")

    inside = ops.expand_dims(_is_inside(rows_out, inner_height, ops), -1) * _is_inside(columns_out, inner_width, ops)
    if config.normalisation == "image":
        planes = _standardize(planes, inside, inner_height * inner_width, ops)
    # Copy a gray image to every channel.
    planes = planes * np.ones((config.channels, 1, 1), np.float32)
    normalization = pixel_normalization(config)
    if normalization == "symmetric":
        planes = (planes - SYMMETRIC_MEAN) / SYMMETRIC_SCALE * inside
    if normalization == "caffe":
        planes = (ops.take(planes, np.array([2, 1, 0]), axis=1) - CAFFE_MEAN[:, None, None]) * inside
    return planes, scale


def _is_eight_bit(images: Tensor, ops: Any) -> Tensor:
    """Compute (B, 1, 1, 1) bool: the image has only integers from 0 to 255."""
    nearest = ops.floor(ops.minimum(ops.maximum(images, 0.0), 255.0))
    return ops.max(ops.abs(images - nearest), axis=(1, 2, 3), keepdims=True) <= 0.0


def _to_byte_range(images: Tensor, eight_bit: Tensor, ops: Any) -> Tensor:
    """Rescale images that are not 8-bit to 0 … 255 between two percentiles.

    As `mrcnn.data.transforms.normalization.rescale_to_uint8_range`.
    """
    every_one = ops.sum(ops.cast(eight_bit, "int32"), axis=(0, 1, 2, 3)) >= ops.cast(ops.shape(images)[0], "int32")

    def stretched() -> Tensor:
        flat = ops.reshape(images, (ops.shape(images)[0], -1))
        low, high = (
            _upper_percentile(flat * -1.0, PERCENTILES[0], ops) * -1.0,
            _upper_percentile(flat, 100 - PERCENTILES[1], ops),
        )
        low, high = (ops.reshape(each, (-1, 1, 1, 1)) for each in (low, high))
        values = (images - low) * (255.0 / ops.maximum(high - low, 1e-12))
        return ops.where(eight_bit, images, ops.minimum(ops.maximum(values, 0.0), 255.0))

    return ops.cond(every_one, lambda: images, stretched)


def _upper_percentile(values: Tensor, percent: float, ops: Any) -> Tensor:
    """Compute the value (B,) that `percent` % of each row (B, N) exceed, linearly interpolated."""
    count = ops.shape(values)[1]
    place = ops.cast(count - 1, "float64") * (percent / 100)
    whole = ops.cast(ops.floor(place), "int64")
    last = ops.cast(count, "int64") - 1
    following = ops.minimum(whole + 1, last)
    best, _ = ops.top_k(values, ops.cast(following + 1, "int32"))
    above, below = (ops.take(best, each, axis=1) for each in (whole, following))
    return above + (below - above) * ops.cast(place - ops.floor(place), "float32")


def _luminance(images: Tensor, eight_bit: Tensor, ops: Any) -> tuple[Tensor, Tensor]:
    """Convert RGB or gray to one channel; return it, and whether it is still 8-bit."""
    channels = ops.cast(ops.shape(images)[3], "int64")
    colored = channels > 1
    weights = ops.where(colored, LUMINANCE, np.array([1, 0, 0], np.float32))
    # One or three weights: the multiplication fails for two or four channels, which the host rejects too.
    weights = ops.take(weights, ops.arange(ops.minimum(channels - 1, 1) * 2 + 1, dtype="int64"), axis=0)
    return ops.sum(images * weights, axis=3, keepdims=True), ops.logical_and(eight_bit, channels <= 1)


def _resize_weights(side: Tensor, inner: Tensor, scale: Tensor, size: int, ops: Any) -> Tensor:
    """Compute weights (size, side) float64 of Pillow's bilinear resampling from `side` to `inner` pixels.

    The rows after `inner` are 0. Source: Pillow, `src/libImaging/Resample.c`: a triangle filter as wide as the larger
    of the two pixels, in fixed point.
    """
    # Pillow stores the border of the resized region as float32.
    end = ops.cast(ops.cast(ops.minimum(inner / scale, side), "float32"), "float64")
    step = end / inner
    centers = step * (np.arange(size)[:, None] + 0.5)
    distance = ops.abs(centers - (ops.expand_dims(ops.arange(side, dtype="float64"), 0) + 0.5))
    weights = ops.maximum(1.0 - distance / ops.maximum(step, 1.0), 0.0)
    weights = ops.where(centers < end, weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-6), 0.0)
    return ops.floor(weights * WEIGHT_STEPS + 0.5) / WEIGHT_STEPS


def _is_inside(size: int, inner: Tensor, ops: Any) -> Tensor:
    """Compute (size,) float32: 1 for the first `inner` pixels, 0 for the padding."""
    return ops.cast(inner > np.arange(size, dtype=np.float64), "float32")


def _standardize(planes: Tensor, inside: Tensor, count: Tensor, ops: Any) -> Tensor:
    """Standardize the `count` pixels of the image, as `mrcnn.data.transforms.normalization.standardize`."""

    def mean(values: Tensor) -> Tensor:
        return ops.sum(ops.cast(values, "float64"), axis=(2, 3), keepdims=True) / count

    planes = (planes - ops.cast(mean(planes), "float32")) * inside
    # In float64: squares of large values overflow in float32.
    exact = ops.cast(planes, "float64")
    deviation = ops.cast(ops.sqrt(mean(exact * exact)), "float32")
    corner = ops.take(ops.take(planes, np.array([0]), axis=2), np.array([0]), axis=3)
    flat = deviation <= (ops.abs(corner) + deviation) * 1e-6
    return planes * ops.where(flat, 0.0, 1.0 / ops.where(flat, 1.0, deviation))
