"""The state dict of torchvision's `maskrcnn_resnet50_fpn` in our layers."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from mrcnn.models.pretrained.matterport import COCO_CLASSES, COCO_IDS, KERAS_EPSILON
from mrcnn.models.pretrained.report import Offer

EPSILON = 1e-5
"""Of its batch norm. The COCO weights that torchvision releases are run with 0 instead."""
POOL = 7

Tensors = Mapping[str, np.ndarray]


def is_torchvision(tensors: Tensors) -> bool:
    """Whether these are the names of one of its Mask R-CNNs."""
    return "backbone.body.conv1.weight" in tensors and any(name.startswith("rpn.head.") for name in tensors)


def layers_of(tensors: Tensors) -> list[str]:
    """Names of its layers: those of its tensors without their last part."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))


def torchvision_offers(tensors: Tensors, class_names: tuple[str, ...]) -> dict[str, Offer]:
    """What the file's `tensors` give our layers, by our names.

    Of its 91 COCO outputs a model of the 80 COCO classes takes those that exist; others are taken in their order.
    """
    # Frozen batch norm counts no batches; torchvision's released files are frozen and were made for epsilon 0.
    epsilon = EPSILON if any(name.endswith("num_batches_tracked") for name in tensors) else 0.0
    offers: dict[str, Offer] = {}

    def offer(ours: str, theirs: str, change=lambda weight, bias: (weight, bias)) -> None:
        for layer in (theirs, _older(theirs)):
            if f"{layer}.weight" in tensors:
                bias = tensors.get(f"{layer}.bias")
                offers[ours] = Offer(change(tensors[f"{layer}.weight"], bias), (layer,))

    def norm(ours: str, theirs: str) -> None:
        if f"{theirs}.running_var" in tensors:
            gamma, beta, mean, variance = (
                tensors[f"{theirs}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
            )
            moved = variance.astype(np.float64) + (epsilon - KERAS_EPSILON)
            offers[ours] = Offer([gamma, beta, mean, moved], (theirs,))

    body = "backbone.body"
    offer("conv1_conv", f"{body}.conv1", _convolution)
    norm("conv1_bn", f"{body}.bn1")
    for stage, block in sorted({(int(m[1]), int(m[2])) for m in map(_BLOCK.match, tensors) if m}):
        ours, theirs = f"conv{stage + 1}_block{block + 1}", f"{body}.layer{stage}.{block}"
        offer(f"{ours}_0_conv", f"{theirs}.downsample.0", _convolution)
        norm(f"{ours}_0_bn", f"{theirs}.downsample.1")
        for part in (1, 2, 3):
            offer(f"{ours}_{part}_conv", f"{theirs}.conv{part}", _convolution)
            norm(f"{ours}_{part}_bn", f"{theirs}.bn{part}")
    for level in range(4):
        offer(f"fpn_lateral{level + 2}", f"backbone.fpn.inner_blocks.{level}.0", _convolution)
        offer(f"fpn_output{level + 2}", f"backbone.fpn.layer_blocks.{level}.0", _convolution)
    offer("rpn_conv", "rpn.head.conv.0.0", _convolution)
    offer("rpn_class", "rpn.head.cls_logits", _convolution)
    offer("rpn_box", "rpn.head.bbox_pred", _convolution)

    heads, rows = "roi_heads", _Rows(class_names)
    offer("head_dense1", f"{heads}.box_head.fc6", _after_pool)
    offer("head_dense2", f"{heads}.box_head.fc7", _dense)
    offer("head_class", f"{heads}.box_predictor.cls_score", lambda w, b: _dense(*rows.with_background(w, b)))
    offer("head_box", f"{heads}.box_predictor.bbox_pred", lambda w, b: _dense(*rows.boxes(w, b)))
    for i in range(4):
        offer(f"mask_conv{i + 1}", f"{heads}.mask_head.{i}.0", _convolution)
    # Inputs come first in its transposed convolution.
    offer("mask_deconv", f"{heads}.mask_predictor.conv5_mask", lambda w, b: (w.transpose(2, 3, 1, 0), b))
    offer("mask_logits", f"{heads}.mask_predictor.mask_fcn_logits", lambda w, b: _convolution(*rows.objects(w, b)))
    return offers


_BLOCK = re.compile(r"backbone\.body\.layer(\d)\.(\d+)\.conv1\.weight")


def _older(layer: str) -> str:
    """The name that files before torchvision 0.14 have for a layer."""
    layer = layer.replace("rpn.head.conv.0.0", "rpn.head.conv")
    layer = re.sub(r"mask_head\.(\d)\.0", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}", layer)
    return re.sub(r"(inner|layer)_blocks\.(\d)\.0", r"\1_blocks.\2", layer)


class _Rows:
    """Which outputs of a head stand for our classes."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.coco = tuple(class_names) == COCO_CLASSES

    def _classes(self, outputs: int) -> np.ndarray:
        return COCO_IDS if self.coco and outputs == 1 + COCO_IDS[-1] else np.arange(1, outputs)

    def objects(self, weight, bias):
        rows = self._classes(len(weight))
        return weight[rows], bias[rows]

    def with_background(self, weight, bias):
        rows = np.concatenate([[0], self._classes(len(weight))])
        return weight[rows], bias[rows]

    def boxes(self, weight, bias):
        rows = (self._classes(len(weight) // 4)[:, None] * 4 + np.arange(4)).ravel()
        return weight[rows], bias[rows]


def _convolution(weight, bias):
    """(out, in, h, w) to (h, w, in, out); where its batch norm takes the place of a bias, ours has one of zeros."""
    return weight.transpose(2, 3, 1, 0), np.zeros(len(weight), np.float32) if bias is None else bias


def _dense(weight, bias):
    return weight.T, bias


def _after_pool(weight, bias):
    """Its pooled values lie as (channel, y, x), ours as (y, x, channel)."""
    if weight.shape[1] % POOL**2:
        return _dense(weight, bias)
    by_place = weight.reshape(len(weight), -1, POOL, POOL).transpose(2, 3, 1, 0)
    return by_place.reshape(-1, len(weight)), bias
