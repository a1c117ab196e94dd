"""The network's input of an image, as a graph: what `mrcnn.data.transforms.encoding.prepare_image` does on the host.

`ops` is `keras.ops`, or a `mrcnn.export.onnx_graph.Graph`.
"""

from __future__ import annotations

import numpy as np

from mrcnn.config import ModelConfig
from mrcnn.data.transforms.normalization import CAFFE_MEAN, LUMINANCE, PERCENTILES

WEIGHT_STEPS = 2.0**22
"""Of Pillow's weights, which are whole multiples of the step's inverse."""


def prepare(images, config: ModelConfig, ops):
    """Images of one size as the network takes them.

    Args:
        images: (B, H, W, C) float32, C being 1, 3 or `config.channels`. An image of whole numbers from 0 to 255 counts
            as an 8-bit one, which is rounded as such when it is resized.

    Returns:
        (B, config.channels, S, S) float32, and the network's pixels per image pixel, a float64 scalar.
    """
    size = config.image_size
    height, width = (ops.cast(ops.shape(images)[axis], "float64") for axis in (1, 2))
    eight_bit = _is_eight_bit(images, ops)
    if config.normalisation == "imagenet":
        images = _to_byte_range(images, eight_bit, ops)
    if config.channels == 1:
        images, eight_bit = _luminance(images, eight_bit, ops)

    scale = size / ops.maximum(height, width)
    # The tiny addition keeps a side that fits exactly from losing a pixel to rounding.
    inner_height, inner_width = (ops.maximum(ops.floor(side * scale + 1e-6), 1.0) for side in (height, width))
    columns = _resize_weights(width, inner_width, scale, size, ops)
    rows = _resize_weights(height, inner_height, scale, size, ops)
    # As Pillow: columns first, and eight bits stay eight bits in between. Exact sums decide which way they are rounded.
    planes = ops.cast(ops.transpose(images, (0, 3, 1, 2)), "float64")
    planes = ops.matmul(planes, ops.transpose(columns, (1, 0)))
    planes = ops.where(eight_bit, ops.floor(planes + 0.5), planes)
    planes = ops.matmul(rows, planes)
    planes = ops.cast(ops.where(eight_bit, ops.floor(planes + 0.5), planes), "float32")

    inside = ops.expand_dims(_is_inside(size, inner_height, ops), -1) * _is_inside(size, inner_width, ops)
    if config.normalisation == "image":
        planes = _standardise(planes, inside, inner_height * inner_width, ops)
    # A grey image stands in every channel.
    planes = planes * np.ones((config.channels, 1, 1), np.float32)
    if config.normalisation == "imagenet":
        planes = (ops.take(planes, np.array([2, 1, 0]), axis=1) - CAFFE_MEAN[:, None, None]) * inside
    return planes, scale


def _is_eight_bit(images, ops):
    """(B, 1, 1, 1) bool: only whole numbers from 0 to 255."""
    nearest = ops.floor(ops.minimum(ops.maximum(images, 0.0), 255.0))
    return ops.max(ops.abs(images - nearest), axis=(1, 2, 3), keepdims=True) <= 0.0


def _to_byte_range(images, eight_bit, ops):
    """Images that are not 8-bit stretched to 0 … 255 between two percentiles, as
    `mrcnn.data.transforms.normalization.rescale_to_uint8_range`."""
    every_one = ops.sum(ops.cast(eight_bit, "int32"), axis=(0, 1, 2, 3)) >= ops.cast(ops.shape(images)[0], "int32")

    def stretched():
        flat = ops.reshape(images, (ops.shape(images)[0], -1))
        low, high = _upper(flat * -1.0, PERCENTILES[0], ops) * -1.0, _upper(flat, 100 - PERCENTILES[1], ops)
        low, high = (ops.reshape(each, (-1, 1, 1, 1)) for each in (low, high))
        values = (images - low) * (255.0 / ops.maximum(high - low, 1e-12))
        return ops.where(eight_bit, images, ops.minimum(ops.maximum(values, 0.0), 255.0))

    return ops.cond(every_one, lambda: images, stretched)


def _upper(values, percent: float, ops):
    """Of each row (B, N) the value that `percent` of the others exceed, (B,), linear between neighbours."""
    count = ops.shape(values)[1]
    place = ops.cast(count - 1, "float64") * (percent / 100)
    whole = ops.cast(ops.floor(place), "int64")
    last = ops.cast(count, "int64") - 1
    following = ops.minimum(whole + 1, last)
    best, _ = ops.top_k(values, ops.cast(following + 1, "int32"))
    above, below = (ops.take(best, each, axis=1) for each in (whole, following))
    return above + (below - above) * ops.cast(place - ops.floor(place), "float32")


def _luminance(images, eight_bit, ops):
    """One channel of RGB or of grey, and whether its numbers are still whole."""
    given = ops.cast(ops.shape(images)[3], "int64")
    coloured = given > 1
    weights = ops.where(coloured, LUMINANCE, np.array([1, 0, 0], np.float32))
    # One weight or three: of two channels or four the multiplication then fails, as the host refuses them.
    weights = ops.take(weights, ops.arange(ops.minimum(given - 1, 1) * 2 + 1, dtype="int64"), axis=0)
    return ops.sum(images * weights, axis=3, keepdims=True), ops.logical_and(eight_bit, given <= 1)


def _resize_weights(side, inner, scale, size: int, ops):
    """Weights (size, side) float64 that make `inner` pixels of `side` ones, as Pillow's bilinear resampling has them;
    the others make 0.

    Source: Pillow, `src/libImaging/Resample.c`: a triangle as wide as the larger of the two pixels, in fixed point.
    """
    # Pillow holds the border of what is resized as float32.
    end = ops.cast(ops.cast(ops.minimum(inner / scale, side), "float32"), "float64")
    step = end / inner
    centres = step * (np.arange(size)[:, None] + 0.5)
    distance = ops.abs(centres - (ops.expand_dims(ops.arange(side, dtype="float64"), 0) + 0.5))
    weights = ops.maximum(1.0 - distance / ops.maximum(step, 1.0), 0.0)
    weights = ops.where(centres < end, weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-6), 0.0)
    return ops.floor(weights * WEIGHT_STEPS + 0.5) / WEIGHT_STEPS


def _is_inside(size: int, inner, ops):
    """(size,) float32: 1 for the first `inner` pixels, 0 for the padding."""
    return ops.cast(inner > np.arange(size, dtype=np.float64), "float32")


def _standardise(planes, inside, count, ops):
    """Zero mean and unit variance over the image's own `count` pixels, as
    `mrcnn.data.transforms.normalization.standardize`."""

    def mean(values):
        return ops.sum(ops.cast(values, "float64"), axis=(2, 3), keepdims=True) / count

    planes = (planes - ops.cast(mean(planes), "float32")) * inside
    # In 64 bits, for squares of large numbers overflow in 32.
    exact = ops.cast(planes, "float64")
    deviation = ops.cast(ops.sqrt(mean(exact * exact)), "float32")
    corner = ops.take(ops.take(planes, np.array([0]), axis=2), np.array([0]), axis=3)
    flat = deviation <= (ops.abs(corner) + deviation) * 1e-6
    return planes * ops.where(flat, 0.0, 1.0 / ops.where(flat, 1.0, deviation))
