"""Residual network nine convolutions deep, for training from scratch on small data sets and CPUs."""

from __future__ import annotations

import keras
from keras import layers

from mrcnn.backend import Tensor
from mrcnn.config import ClassifierConfig, ModelConfig
from mrcnn.models.layers.normalization import make_normalization

_WIDTHS = (32, 64, 128, 160)


def build(config: ModelConfig | ClassifierConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to [C2, C3, C4, C5] with 32, 64, 128 and 160 channels."""

    def block(x: Tensor, width: int, stride: int, name: str) -> Tensor:
        shortcut = x
        y = layers.Conv2D(width, 3, stride, "same", use_bias=False, name=f"{name}_1_conv")(x)
        y = layers.ReLU(name=f"{name}_1_relu")(make_normalization(config.norm, f"{name}_1_norm")(y))
        y = layers.Conv2D(width, 3, 1, "same", use_bias=False, name=f"{name}_2_conv")(y)
        y = make_normalization(config.norm, f"{name}_2_norm")(y)
        if stride != 1 or x.shape[-1] != width:
            shortcut = layers.Conv2D(width, 1, stride, "same", use_bias=False, name=f"{name}_0_conv")(x)
            shortcut = make_normalization(config.norm, f"{name}_0_norm")(shortcut)
        return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))

    image = layers.Input((*config.input_shape, config.channels), name="image")
    x = layers.Conv2D(_WIDTHS[0], 5, 2, "same", use_bias=False, name="conv1_conv")(image)
    x = layers.ReLU(name="conv1_relu")(make_normalization(config.norm, "conv1_norm")(x))
    outputs = []
    for stage, width in enumerate(_WIDTHS, start=2):
        x = block(x, width, 2, f"conv{stage}_block1")
        outputs.append(x)
    return keras.Model(image, outputs, name="backbone")
