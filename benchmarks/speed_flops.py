"""Floating-point operations of our network, counted from its layers' shapes: two for each multiply-add.

Only convolutions and matrix products count; normalisation, activations, pooling and suppression are left out, as is
usual. A training step is counted as three forward passes: forward, gradients of the inputs, gradients of the weights.
"""

from __future__ import annotations

import math

import keras

from mrcnn.config import ModelConfig
from mrcnn.model import MaskRCNN
from mrcnn.model.mask_rcnn import MASK_SLOTS

TRAINING_PASSES = 3


def layer_flops(layer: keras.layers.Layer, side: int | None = None) -> int:
    """Of one image or region; `side` stands in for a height and width that the layer's shape leaves open.

    Raises:
        TypeError: a layer with a matrix of weights whose operations are not known here.
    """
    if isinstance(layer, keras.layers.Conv2DTranspose):  # each input cell meets the whole kernel
        return 2 * math.prod(layer.kernel.shape) * _cells(layer.input.shape, side)
    if isinstance(layer, keras.layers.Conv2D):
        return 2 * math.prod(layer.kernel.shape) * _cells(layer.output.shape, side)
    if isinstance(layer, keras.layers.Dense):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise TypeError(f"{layer.name}: the operations of {type(layer).__name__} are not known")
    return 0


def _cells(shape: tuple[int | None, ...], side: int | None) -> int:
    return math.prod(side if extent is None else extent for extent in shape[1:3])


def forward_flops(model: MaskRCNN, *, batch: int, regions: int, mask_slots: int) -> int:
    """Of one forward pass of `batch` images with `regions` boxes classified and `mask_slots` masks made in each."""

    def of(part: keras.Model, side: int | None = None) -> int:
        return sum(layer_flops(layer, side) for layer in part.layers)

    proposals = sum(of(model.proposal_head, side) for side in model.config.grid_sizes)
    image = of(model.backbone) + of(model.pyramid) + proposals
    return batch * (image + regions * of(model.box_head) + mask_slots * of(model.mask_head))


def training_flops(model: MaskRCNN, batch: int) -> int:
    config = model.config
    return TRAINING_PASSES * forward_flops(
        model, batch=batch, regions=config.roi_samples, mask_slots=config.roi_positives
    )


def inference_flops(model: MaskRCNN, batch: int, fullest: int) -> int:
    """With `fullest` detections in the image that has the most."""
    slots = computed_mask_slots(fullest, model.config)
    return forward_flops(model, batch=batch, regions=model.config.proposals, mask_slots=slots)


def computed_mask_slots(fullest: int, config: ModelConfig) -> int:
    """Masks that the network makes for each image of a batch whose fullest one has so many detections."""
    return next((slots for slots in MASK_SLOTS if fullest <= slots < config.max_detections), config.max_detections)
