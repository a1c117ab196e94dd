"""Build the region heads: class and box from 7 × 7 bins, mask from 14 × 14 bins (He et al. 2017, figure 4)."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from mrcnn.config import ModelConfig
from mrcnn.models.layers.convolutions import Convolution3x3

BOX_SCALE = (10.0, 10.0, 5.0, 5.0)
"""Factors of the box targets, which give them about unit variance (Girshick 2015, section 2.3)."""


def build_box_head(config: ModelConfig) -> keras.Model:
    """Build a functional model from (N, 7, 7, C) to [class logits (N, K + 1), deltas (N, 4 K or 4)], float32."""
    classes = len(config.class_names)
    boxes = 1 if config.class_agnostic else classes
    regions = layers.Input((config.pool_size, config.pool_size, config.fpn_channels), name="regions")
    x = layers.Flatten(name="head_flatten")(regions)
    for i in (1, 2):
        x = layers.Dense(config.head_width, activation="relu", name=f"head_dense{i}")(x)
    logits = _linear(classes + 1, 0.01, "head_class")(x)
    deltas = _linear(4 * boxes, 0.001, "head_box")(x)
    return keras.Model(regions, [logits, deltas], name="box_head")


def _linear(width: int, deviation: float, name: str) -> layers.Dense:
    """Create a float32 layer without activation whose weights are normally distributed."""
    settings: dict[str, Any] = {"kernel_initializer": keras.initializers.RandomNormal(stddev=deviation)}
    return layers.Dense(width, **settings, dtype="float32", name=name)


def build_mask_head(config: ModelConfig) -> keras.Model:
    """Build a functional model from (N, 14, 14, C) to mask logits (N, 28, 28, K or 1), float32.

    The regions are in the batch axis, because TimeDistributed layers are several times slower.
    """
    masks = 1 if config.class_agnostic else len(config.class_names)
    regions = layers.Input((config.mask_pool_size, config.mask_pool_size, config.fpn_channels), name="regions")
    x = regions
    for i in range(1, config.mask_convolutions + 1):
        x = Convolution3x3(
            config.mask_channels, activation="relu", kernel_initializer="he_normal", name=f"mask_conv{i}"
        )(x)
    x = layers.Conv2DTranspose(
        config.mask_channels, 2, 2, activation="relu", kernel_initializer="he_normal", name="mask_deconv"
    )(x)
    logits = layers.Conv2D(masks, 1, kernel_initializer="he_normal", dtype="float32", name="mask_logits")(x)
    return keras.Model(regions, logits, name="mask_head")
