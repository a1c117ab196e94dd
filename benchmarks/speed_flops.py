"""Count the floating-point operations of our network from the layer shapes: two per multiply-add.

Only convolutions and matrix products count; normalization, activations, pooling and suppression are ignored, as usual.
Training counts as three forward passes: forward, gradients of the inputs, gradients of the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from mrcnn.models import MaskRCNN
from mrcnn.models.mask_rcnn.model import MASK_SLOTS

TRAINING_PASSES = 3


def layer_flops(layer: keras.layers.Layer, side: int | None = None) -> int:
    """Count the operations for one image or region; `side` replaces an undefined height and width.

    Raises:
        TypeError: a layer with a matrix of weights whose operations are not known here.
    """
    if isinstance(layer, keras.layers.Conv2DTranspose):  # each input cell meets the whole kernel
        return 2 * math.prod(layer.kernel.shape) * _cells(layer.input.shape, side)
    # The kernel of a depthwise convolution has one output per channel.
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
        return 2 * math.prod(layer.kernel.shape) * _cells(layer.output.shape, side)
    if isinstance(layer, keras.layers.Dense):
        return 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise TypeError(f"{layer.name}: the operations of {type(layer).__name__} are not known")
    return 0


def _cells(shape: tuple[int | None, ...], side: int | None) -> int:
    return math.prod(side if extent is None else extent for extent in shape[1:3])


def forward_flops(model: MaskRCNN, *, batch: int, regions: int, mask_slots: int) -> int:
    """Count a forward pass of `batch` images, with `regions` classified boxes and `mask_slots` masks in each."""
    image = _flops(model.backbone) + _flops(model.pyramid) + _proposal_flops(model)
    return batch * (image + regions * _flops(model.box_head) + mask_slots * _flops(model.mask_head))


def _flops(part: keras.Model, side: int | None = None) -> int:
    return sum(layer_flops(layer, side) for layer in part.layers)


def _proposal_flops(model: MaskRCNN) -> int:
    return sum(_flops(model.proposal_head, side) for side, _ in model.config.grid_sizes)


def training_flops(model: MaskRCNN, batch: int, positives: int) -> int:
    """Count a training step with `positives` positive regions in the whole batch.

    The proposal head runs once over the levels; only for the sampled anchors' cells is it trained.
    """
    config = model.config
    slots = computed_mask_slots(positives, batch, config.roi_positives, MASK_SLOTS[1:])
    forward = forward_flops(model, batch=batch, regions=config.roi_samples, mask_slots=slots)
    levels, cell = batch * _proposal_flops(model), _flops(model.proposal_head, 1)
    return TRAINING_PASSES * (forward - levels + batch * config.rpn_samples * cell) + levels


def inference_flops(model: MaskRCNN, batch: int, kept: int) -> int:
    """Count an inference with `kept` detections in the whole batch."""
    slots = computed_mask_slots(kept, batch, model.config.max_detections)
    return forward_flops(model, batch=batch, regions=model.config.proposals, mask_slots=slots)


def computed_mask_slots(regions: int, batch: int, most: int, sizes: Sequence[int] = MASK_SLOTS) -> int:
    """Return the masks computed per image of a batch with `regions` regions, at most `most` per image."""
    return next((slots for slots in sizes if regions <= slots * batch and 2 * slots <= most), most)
