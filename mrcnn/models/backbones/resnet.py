"""ResNet (He et al. 2016) of keras.applications with the configured normalization and conventions."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import layers

from mrcnn.config import ClassifierConfig, ModelConfig
from mrcnn.models.layers import folded
from mrcnn.models.layers.normalization import make_normalization
from mrcnn.models.pretrained.conventions import make_conventions
from mrcnn.models.training.data_parallel import num_replicas

CLASSIFIERS: dict[str, tuple[Callable[..., keras.Model], tuple[str, ...]]] = {
    "resnet50": (
        keras.applications.ResNet50,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
    ),
    "resnet101": (
        keras.applications.ResNet101,
        ("conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
    ),
}


def build(config: ModelConfig | ClassifierConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to [C2, C3, C4, C5] with 256, 512, 1024 and 2048 channels."""
    make, outputs = CLASSIFIERS[config.backbone]
    shape = (*config.input_shape, config.channels)
    classifier = make(include_top=False, weights=None, input_shape=shape)
    trunk = keras.Model(classifier.input, [classifier.get_layer(name).output for name in outputs], name="backbone")
    # A classifier has the conventions of the paper, which read none of the fields that it lacks here.
    conventions = make_conventions(config)  # pyright: ignore[reportArgumentType]

    def convert(layer: layers.Layer) -> layers.Layer:
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
