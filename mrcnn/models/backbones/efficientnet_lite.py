"""EfficientNet-Lite: EfficientNet (Tan & Le 2019) without squeeze-and-excitation, with ReLU6 in place of swish.

Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from keras import layers

from mrcnn.backend import Tensor
from mrcnn.config import ClassifierConfig, ModelConfig
from mrcnn.models.layers import folded
from mrcnn.models.layers.normalization import make_normalization

STEM = 32
_STAGES = (
    (1, 1, 3, 1, 1, 16), (2, 2, 3, 2, 6, 24), (3, 2, 5, 2, 6, 40), (4, 3, 3, 2, 6, 80), (4, 3, 5, 1, 6, 112),
    (5, 4, 5, 2, 6, 192), (5, 1, 3, 1, 6, 320),
)  # fmt: skip
"""Level of the outputs, blocks, kernel size, stride of the first block, expansion, channels."""
_DEPTHS = {"efficientnet_lite0": 1.0, "efficientnet_lite1": 1.1}


@dataclass(frozen=True)
class Block:
    """An inverted residual block (Sandler et al. 2018, MobileNetV2): expansion, depthwise convolution, projection."""

    name: str
    kernel_size: int
    stride: int
    expansion: int
    inputs: int
    outputs: int

    def layer_names(self) -> list[str]:
        """Return the names of the convolutions; that of the normalization after each ends in `_norm`."""
        return [f"{self.name}_{part}" for part in ("expand", "depthwise", "project")[self.expansion == 1 :]]


def list_blocks(backbone: str) -> list[Block]:
    """Return the blocks of `efficientnet_lite0` or `efficientnet_lite1` in order."""
    blocks, inputs, last = [], STEM, len(_STAGES) - 1
    for number, (level, count, kernel_size, stride, expansion, outputs) in enumerate(_STAGES):
        # The first and the last stage have the same depth in all variants.
        count = count if number in (0, last) else math.ceil(count * _DEPTHS[backbone])
        for i in range(count):
            position = sum(block.name.startswith(f"conv{level}_") for block in blocks) + 1
            name = f"conv{level}_block{position}"
            blocks.append(Block(name, kernel_size, stride if i == 0 else 1, expansion, inputs, outputs))
            inputs = outputs
    return blocks


def build(config: ModelConfig | ClassifierConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to [C2, C3, C4, C5] with 24, 40, 112 and 320 channels."""

    def normalize(x: Tensor, name: str) -> Tensor:
        if config.norm == "frozen_batch":
            return folded.BatchNormalization(name=f"{name}_norm", trainable=False)(x)
        return make_normalization(config.norm, f"{name}_norm", math.gcd(16, x.shape[-1]))(x)

    def convolve(x: Tensor, channels: int, name: str, kernel_size: int = 1, stride: int = 1) -> Tensor:
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out")
        layer = folded.Conv2D(
            channels, kernel_size, stride, "same", use_bias=False, kernel_initializer=initializer, name=name
        )
        return normalize(layer(x), name)

    def apply(block: Block, x: Tensor) -> Tensor:
        *expand, depthwise, project = block.layer_names()
        y = x
        if expand:
            y = convolve(y, block.inputs * block.expansion, expand[0])
            y = layers.ReLU(6, name=f"{expand[0]}_relu")(y)
        initializer = keras.initializers.VarianceScaling(2.0, "fan_out")
        layer = folded.DepthwiseConv2D(
            block.kernel_size, block.stride, depthwise_initializer=initializer, name=depthwise
        )
        y = layers.ReLU(6, name=f"{depthwise}_relu")(normalize(layer(y), depthwise))
        y = convolve(y, block.outputs, project)
        if block.stride == 1 and block.inputs == block.outputs:
            y = layers.Add(name=f"{block.name}_add")([x, y])
        return y

    image = layers.Input((*config.input_shape, config.channels), name="image")
    x = layers.ReLU(6, name="conv1_relu")(convolve(image, STEM, "conv1_conv", 3, 2))
    levels = {}
    for block in list_blocks(config.backbone):
        x = levels[block.name[: len("conv1")]] = apply(block, x)
    backbone = keras.Model(image, [levels[f"conv{level}"] for level in (2, 3, 4, 5)], name="backbone")
    folded.fold(backbone)
    return backbone
