"""Build backbones from an image to the feature maps C2 … C5 with strides 4, 8, 16 and 32."""

from __future__ import annotations

import keras
from keras import layers

from mrcnn.config import ModelConfig
from mrcnn.models.layers import folded
from mrcnn.models.layers.normalization import make_normalization
from mrcnn.models.pretrained.conventions import make_conventions
from mrcnn.models.training.data_parallel import num_replicas

RESNETS = {
    "resnet50": (
        keras.applications.ResNet50,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    ),
    "resnet101": (
        keras.applications.ResNet101,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
    ),
}
_SMALL_WIDTHS = (32, 64, 128, 160)


def build_backbone(config: ModelConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to the list [C2, C3, C4, C5].

    Layer names begin with their stage ("conv4_…"), by which `mrcnn.models.training.stages` selects them.
    """
    return _small(config) if config.backbone == "small" else _resnet(config)


def _resnet(config: ModelConfig) -> keras.Model:
    """Build a ResNet (He et al. 2016) from keras.applications with the configured normalization and conventions."""
    make, outputs = RESNETS[config.backbone]
    shape = (config.image_size, config.image_size, config.channels)
    classifier = make(include_top=False, weights=None, input_shape=shape)
    trunk = keras.Model(classifier.input, [classifier.get_layer(name).output for name in outputs], name="backbone")
    conventions = make_conventions(config)

    def convert(layer):
        if (replacement := conventions.replace_backbone_layer(layer)) is not None:
            return replacement
        if config.norm != "batch" and isinstance(layer, layers.BatchNormalization):
            if config.norm == "group":
                return make_normalization("group", layer.name)
            return folded.BatchNormalization.from_config({**layer.get_config(), "trainable": False})
        if isinstance(layer, layers.BatchNormalization):
            return layer.__class__.from_config({**layer.get_config(), "synchronized": num_replicas() > 1})
        if config.norm == "frozen_batch" and isinstance(layer, layers.Conv2D):
            return folded.Conv2D.from_config(layer.get_config())
        return layer.__class__.from_config(layer.get_config())

    # The recorded calls have arguments that only batch normalization accepts.
    backbone = keras.models.clone_model(
        trunk, clone_function=convert, call_function=lambda layer, *inputs, **_: layer(*inputs)
    )
    folded.fold(backbone)
    return backbone


def _small(config: ModelConfig) -> keras.Model:
    """Build a residual network nine convolutions deep, for training from scratch on small data sets and CPUs."""

    def block(x, width: int, stride: int, name: str):
        shortcut = x
        y = layers.Conv2D(width, 3, stride, "same", use_bias=False, name=f"{name}_1_conv")(x)
        y = layers.ReLU(name=f"{name}_1_relu")(make_normalization(config.norm, f"{name}_1_norm")(y))
        y = layers.Conv2D(width, 3, 1, "same", use_bias=False, name=f"{name}_2_conv")(y)
        y = make_normalization(config.norm, f"{name}_2_norm")(y)
        if stride != 1 or x.shape[-1] != width:
            shortcut = layers.Conv2D(width, 1, stride, "same", use_bias=False, name=f"{name}_0_conv")(x)
            shortcut = make_normalization(config.norm, f"{name}_0_norm")(shortcut)
        return layers.ReLU(name=f"{name}_out")(layers.Add(name=f"{name}_add")([shortcut, y]))

    image = layers.Input((config.image_size, config.image_size, config.channels), name="image")
    x = layers.Conv2D(_SMALL_WIDTHS[0], 5, 2, "same", use_bias=False, name="conv1_conv")(image)
    x = layers.ReLU(name="conv1_relu")(make_normalization(config.norm, "conv1_norm")(x))
    outputs = []
    for stage, width in enumerate(_SMALL_WIDTHS, start=2):
        x = block(x, width, 2, f"conv{stage}_block1")
        outputs.append(x)
    return keras.Model(image, outputs, name="backbone")
