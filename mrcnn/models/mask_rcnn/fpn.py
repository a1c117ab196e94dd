"""Build the feature pyramid from C2 … C5 to P2 … P6 (Lin et al. 2017, section 3)."""

from __future__ import annotations

import keras
from keras import layers

from mrcnn.config import ModelConfig
from mrcnn.models.layers.convolutions import Convolution3x3


def build_pyramid(config: ModelConfig, shapes: list[tuple[int | None, ...]]) -> keras.Model:
    """Build a functional model from [C2 … C5] of `shapes` (B, H, W, C) to [P2 … P6]; P6 is P5 at every second cell."""
    inputs = [layers.Input(shape[1:], name=f"c{level}") for level, shape in enumerate(shapes, start=2)]
    width = config.fpn_channels
    lateral = [layers.Conv2D(width, 1, name=f"fpn_lateral{level}")(c) for level, c in enumerate(inputs, start=2)]
    for i in (2, 1, 0):
        above = layers.UpSampling2D(2, name=f"fpn_up{i + 3}")(lateral[i + 1])
        lateral[i] = layers.Add(name=f"fpn_add{i + 2}")([above, lateral[i]])
    outputs = [Convolution3x3(width, name=f"fpn_output{level}")(x) for level, x in enumerate(lateral, 2)]
    outputs.append(layers.MaxPooling2D(1, 2, name="fpn_output6")(outputs[-1]))
    return keras.Model(inputs, outputs, name="pyramid")
