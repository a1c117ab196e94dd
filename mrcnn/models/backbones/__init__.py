"""Backbones: from an image to the feature maps C2 … C5 with strides 4, 8, 16 and 32."""

from __future__ import annotations

import keras

from mrcnn.config import EFFICIENTNETS, ClassifierConfig, ModelConfig
from mrcnn.models.backbones.efficientnet_lite import build_efficientnet_lite
from mrcnn.models.backbones.resnet import build_resnet
from mrcnn.models.backbones.small import build_small


def build_backbone(config: ModelConfig | ClassifierConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to the list [C2, C3, C4, C5].

    Layer names begin with their stage ("conv4_…"), by which `mrcnn.models.training.stages` selects them.
    """
    if config.backbone == "small":
        return build_small(config)
    return build_efficientnet_lite(config) if config.backbone in EFFICIENTNETS else build_resnet(config)
