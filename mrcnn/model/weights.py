"""Where a training starts from."""

from __future__ import annotations

from mrcnn.errors import InputError
from mrcnn.model.backbone import RESNETS
from mrcnn.model.mask_rcnn import MaskRCNN


def load_imagenet(model: MaskRCNN) -> None:
    """Give the backbone the ImageNet weights that Keras downloads, keeps in its cache and checks against a digest.

    Raises:
        InputError: the configuration cannot take them, or they are neither in the cache nor to be had.
    """
    config = model.config
    if config.backbone not in RESNETS:
        raise InputError(f"weights=imagenet: backbone={config.backbone} has none, expected one of {', '.join(RESNETS)}")
    if config.norm == "group":
        raise InputError("weights=imagenet: norm=group has no pretrained weights, expected frozen_batch or batch")
    if config.normalisation != "imagenet":
        raise InputError(f"weights=imagenet: expected normalisation=imagenet, found {config.normalisation}")
    make, _ = RESNETS[config.backbone]
    try:
        source = make(include_top=False, weights="imagenet", input_shape=(config.image_size, config.image_size, 3))
    except Exception as error:  # Keras raises a bare Exception when its download fails
        raise InputError(
            f"weights=imagenet: the weights of {config.backbone} are not in Keras's cache and the download failed "
            f"({str(error).splitlines()[0]}). Without a network: put the file into ~/.keras/models on this machine, or "
            "train from scratch with weights=none norm=group, or take backbone=small weights=none"
        ) from error
    for layer in model.backbone.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
