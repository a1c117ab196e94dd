"""Select the trainable layers of a training stage."""

from __future__ import annotations

import keras

from mrcnn.models.mask_rcnn.model import MaskRCNN

STAGES = ("heads", "5+", "4+", "3+", "all")


def set_trainable(model: MaskRCNN, stage: str) -> None:
    """Set which layers are trainable in a stage. Compile the model again afterwards.

    Stages are `heads` (all but the backbone); `5+`, `4+`, `3+` (also the backbone from that stage on); and `all`.
    Frozen batch normalization stays frozen in every stage.

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
            layer.trainable = int(layer.name[len("conv")]) >= first  # 5 for conv5_block1_1_conv
