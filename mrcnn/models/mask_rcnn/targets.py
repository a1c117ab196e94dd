"""Sample anchors and regions of a batch and compute their training targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mrcnn.backend import Tensor, ops
from mrcnn.config import ModelConfig
from mrcnn.geometry import boxes as box_ops
from mrcnn.geometry.masks import crop_masks
from mrcnn.geometry.matching import match, sample, take_rows
from mrcnn.models.mask_rcnn.heads import BOX_SCALE


class AnchorTargets(NamedTuple):
    """Sampled anchors of a batch.

    Attributes:
        index: (B, S) int32 into the anchor grid.
        positive: (B, S) float32, 1 for positives.
        used: (B, S) float32, 1 for samples, 0 for empty slots.
        deltas: (B, S, 4) float32, regression targets.
    """

    index: Tensor
    positive: Tensor
    used: Tensor
    deltas: Tensor


class RegionTargets(NamedTuple):
    """Sampled regions of a batch; the first P = `config.roi_positives` slots are for positives.

    Attributes:
        boxes: (B, R, 4) float32.
        used: (B, R) float32, 1 for samples, 0 for empty slots.
        class_ids: (B, R) int32, 0 for background.
        positive: (B, P) float32, 1 for positives.
        deltas: (B, P, 4) float32, regression targets.
        masks: (B, P, m, m) float32, 0 or 1.
    """

    boxes: Tensor
    used: Tensor
    class_ids: Tensor
    positive: Tensor
    deltas: Tensor
    masks: Tensor


CROWD_COVERAGE = 0.5
"""Fraction of the area of an anchor or region in a crowd from which it is not a background sample. The denominator is
the area of the region, not the union, as in COCO's evaluation of crowds."""


def anchor_targets(
    anchors: Tensor, boxes: Tensor, valid: Tensor, noise: Tensor, config: ModelConfig, in_crowd: Tensor | None = None
) -> AnchorTargets:
    """Sample `config.rpn_samples` anchors per image, at most half of them positive (Ren et al. 2015, section 3.1.3).

    Args:
        anchors: (A, 4).
        boxes: (B, M, 4).
        valid: (B, M) bool.
        noise: (B, A) uniform in [0, 1), selects the samples.
        config: architecture and thresholds.
        in_crowd: (B, A) bool, anchors in crowds, which are not background samples; None for no crowds.
    """
    positive, negative, matched = match(
        anchors, boxes, valid, config.rpn_positive_iou, config.rpn_negative_iou, best_for_each=True
    )
    if in_crowd is not None:
        negative = ops.logical_and(negative, ops.logical_not(in_crowd))
    positive_index, is_positive = sample(positive, noise, config.rpn_samples // 2)
    negative_index, is_negative = sample(negative, noise, config.rpn_samples)
    remaining = config.rpn_samples - ops.sum(ops.cast(is_positive, "int32"), axis=-1, keepdims=True)
    is_negative = ops.logical_and(is_negative, ops.arange(negative_index.shape[1]) < remaining)
    index = ops.concatenate([positive_index, negative_index], axis=1)
    is_positive = ops.cast(ops.pad(is_positive, ((0, 0), (0, negative_index.shape[1]))), "float32")
    is_negative = ops.cast(ops.pad(is_negative, ((0, 0), (positive_index.shape[1], 0))), "float32")
    truth = take_rows(boxes, take_rows(matched, index))
    deltas = box_ops.encode(truth, ops.take(anchors, index, axis=0))
    return AnchorTargets(index, is_positive, is_positive + is_negative, deltas)


def region_targets(
    proposals: Tensor,
    proposal_valid: Tensor,
    batch: Mapping[str, Tensor],
    noise: Tensor,
    config: ModelConfig,
    in_crowd: Tensor | None = None,
) -> RegionTargets:
    """Sample `config.roi_samples` of the proposals and true boxes per image, at most a quarter of them positive.

    Args:
        proposals: (B, R, 4).
        proposal_valid: (B, R) bool.
        batch: `boxes` (B, M, 4), `class_ids` (B, M), `valid` (B, M) and `masks` (B, M, T, T) in 0 … 255.
        noise: (B, R + M) uniform in [0, 1), selects the samples.
        config: architecture and thresholds.
        in_crowd: (B, R) bool, proposals in crowds, which are not background samples; None for no crowds.
    """
    boxes, valid = batch["boxes"], batch["valid"]
    candidates = ops.concatenate([proposals, boxes], axis=1)
    exists = ops.concatenate([proposal_valid, valid], axis=1)
    positive, negative, matched = match(
        candidates, boxes, valid, config.roi_positive_iou, config.roi_positive_iou, best_for_each=False,
        # Other digits of the noise, because sampling selects its large values.
        noise=ops.mod(noise * 1024.0, 1.0),
    )  # fmt: skip
    if in_crowd is not None:
        negative = ops.logical_and(negative, ops.logical_not(ops.pad(in_crowd, ((0, 0), (0, boxes.shape[1])))))
    slots = config.roi_positives
    positive_index, is_positive = sample(ops.logical_and(positive, exists), noise, slots)
    negative_index, is_negative = sample(ops.logical_and(negative, exists), noise, config.roi_samples - slots)
    instance = take_rows(matched, positive_index)
    regions = take_rows(candidates, positive_index)
    truth = take_rows(boxes, instance)
    classes = ops.where(is_positive, take_rows(ops.cast(batch["class_ids"], "int32"), instance), 0)
    masks = ops.cast(take_rows(batch["masks"], instance), "float32") / 255.0
    return RegionTargets(
        boxes=ops.concatenate([regions, take_rows(candidates, negative_index)], axis=1),
        used=ops.cast(ops.concatenate([is_positive, is_negative], axis=1), "float32"),
        class_ids=ops.pad(classes, ((0, 0), (0, negative_index.shape[1]))),
        positive=ops.cast(is_positive, "float32"),
        deltas=box_ops.encode(truth, regions, BOX_SCALE),
        masks=crop_masks(masks, truth, regions, config.mask_size),
    )
