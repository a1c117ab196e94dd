"""Backbones: from an image to the feature maps C2 … C5 with strides 4, 8, 16 and 32."""

from __future__ import annotations

from importlib import import_module

import keras

from mrcnn.config import BACKBONES, ClassifierConfig, ModelConfig


def build_backbone(config: ModelConfig | ClassifierConfig) -> keras.Model:
    """Build a functional model from (B, S, S, C) to the list [C2, C3, C4, C5].

    Layer names begin with their stage ("conv4_…"), by which `mrcnn.models.training.stages` selects them.
    """
    return import_module(f"mrcnn.models.backbones.{BACKBONES[config.backbone].module}").build(config)
