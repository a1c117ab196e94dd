"""Training a part of the network at a time."""

from __future__ import annotations

import keras

from mrcnn.models.mask_rcnn.model import MaskRCNN

STAGES = ("heads", "5+", "4+", "3+", "all")


def set_trainable(model: MaskRCNN, stage: str) -> None:
    """Choose which layers train: `heads` (pyramid, proposal, box and mask heads), `5+`, `4+`, `3+` (those and the
    backbone from that stage up) or `all`. Compile the model again afterwards.

    Frozen batch norm stays frozen whatever the stage.

    Raises:
        ValueError: an unknown stage.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage!r}: expected one of {', '.join(STAGES)}")
    first = {"heads": 6, "all": 1}.get(stage) or int(stage[0])
    for layer in model.backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and model.config.norm == "frozen_batch":
            layer.trainable = False
        elif layer.weights:
            layer.trainable = _stage_of(layer.name) >= first


def _stage_of(name: str) -> int:
    """5 for `conv5_block1_1_conv`."""
    return int(name[len("conv")])
