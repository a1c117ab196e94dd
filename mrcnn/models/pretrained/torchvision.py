"""Convert the state dict of torchvision's `maskrcnn_resnet50_fpn`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.models.pretrained.matterport import COCO_CLASSES, COCO_IDS, KERAS_EPSILON
from mrcnn.models.pretrained.report import SourceWeights

EPSILON = 1e-5
"""Epsilon of torchvision's batch normalization; 0 for its released COCO weights."""
POOL = 7

Tensors = Mapping[str, np.ndarray]


def is_torchvision(tensors: Tensors) -> bool:
    """Return whether the tensors are those of a Mask R-CNN of torchvision."""
    return "backbone.body.conv1.weight" in tensors and any(name.startswith("rpn.head.") for name in tensors)


Parameters = Sequence[np.ndarray]
"""Weights of a layer: the kernel and the bias."""


def layer_names(tensors: Tensors) -> list[str]:
    """Return the layer names: the tensor names without their last part."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in tensors))


def convert_torchvision(tensors: Tensors, class_names: tuple[str, ...]) -> dict[str, SourceWeights]:
    """Convert `tensors` to weights by this project's layer names.

    A model of the 80 COCO classes takes their outputs of the 91 of the file; other models take all in order.
    """
    # Frozen batch normalization counts no batches. Torchvision's released files are frozen and need epsilon 0.
    epsilon = EPSILON if any(name.endswith("num_batches_tracked") for name in tensors) else 0.0
    converted: dict[str, SourceWeights] = {}

    def convert(
        ours: str,
        theirs: str,
        change: Callable[[np.ndarray, Any], Parameters] = lambda weight, bias: (weight, bias),
    ) -> None:
        for layer in (theirs, _old_name(theirs)):
            if f"{layer}.weight" in tensors:
                bias = tensors.get(f"{layer}.bias")
                converted[ours] = SourceWeights(change(tensors[f"{layer}.weight"], bias), (layer,))

    def norm(ours: str, theirs: str) -> None:
        if f"{theirs}.running_var" in tensors:
            gamma, beta, mean, variance = (
                tensors[f"{theirs}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
            )
            moved = variance.astype(np.float64) + (epsilon - KERAS_EPSILON)
            converted[ours] = SourceWeights([gamma, beta, mean, moved], (theirs,))

    body = "backbone.body"
    convert("conv1_conv", f"{body}.conv1", _convolution)
    norm("conv1_bn", f"{body}.bn1")
    for stage, block in sorted({(int(m[1]), int(m[2])) for m in map(_BLOCK.match, tensors) if m}):
        ours, theirs = f"conv{stage + 1}_block{block + 1}", f"{body}.layer{stage}.{block}"
        convert(f"{ours}_0_conv", f"{theirs}.downsample.0", _convolution)
        norm(f"{ours}_0_bn", f"{theirs}.downsample.1")
        for part in (1, 2, 3):
            convert(f"{ours}_{part}_conv", f"{theirs}.conv{part}", _convolution)
            norm(f"{ours}_{part}_bn", f"{theirs}.bn{part}")
    for level in range(4):
        convert(f"fpn_lateral{level + 2}", f"backbone.fpn.inner_blocks.{level}.0", _convolution)
        convert(f"fpn_output{level + 2}", f"backbone.fpn.layer_blocks.{level}.0", _convolution)
    convert("rpn_conv", "rpn.head.conv.0.0", _convolution)
    convert("rpn_class", "rpn.head.cls_logits", _convolution)
    convert("rpn_box", "rpn.head.bbox_pred", _convolution)

    heads, rows = "roi_heads", _ClassRows(class_names)
    convert("head_dense1", f"{heads}.box_head.fc6", _flattened_dense)
    convert("head_dense2", f"{heads}.box_head.fc7", _dense)
    convert("head_class", f"{heads}.box_predictor.cls_score", lambda w, b: _dense(*rows.with_background(w, b)))
    convert("head_box", f"{heads}.box_predictor.bbox_pred", lambda w, b: _dense(*rows.boxes(w, b)))
    for i in range(4):
        convert(f"mask_conv{i + 1}", f"{heads}.mask_head.{i}.0", _convolution)
    # The first axis of a transposed convolution in PyTorch is the input.
    convert("mask_deconv", f"{heads}.mask_predictor.conv5_mask", lambda w, b: (w.transpose(2, 3, 1, 0), b))
    convert("mask_logits", f"{heads}.mask_predictor.mask_fcn_logits", lambda w, b: _convolution(*rows.objects(w, b)))
    return converted


_BLOCK = re.compile(r"backbone\.body\.layer(\d)\.(\d+)\.conv1\.weight")


def _old_name(layer: str) -> str:
    """Return the name of a layer before torchvision 0.14."""
    layer = layer.replace("rpn.head.conv.0.0", "rpn.head.conv")
    layer = re.sub(r"mask_head\.(\d)\.0", lambda m: f"mask_head.mask_fcn{int(m[1]) + 1}", layer)
    return re.sub(r"(inner|layer)_blocks\.(\d)\.0", r"\1_blocks.\2", layer)


class _ClassRows:
    """Select the outputs of the heads that belong to the classes of the model."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.coco = tuple(class_names) == COCO_CLASSES

    def _classes(self, outputs: int) -> np.ndarray:
        return COCO_IDS if self.coco and outputs == 1 + COCO_IDS[-1] else np.arange(1, outputs)

    def objects(self, weight: np.ndarray, bias: np.ndarray) -> Parameters:
        rows = self._classes(len(weight))
        return weight[rows], bias[rows]

    def with_background(self, weight: np.ndarray, bias: np.ndarray) -> Parameters:
        rows = np.concatenate([[0], self._classes(len(weight))])
        return weight[rows], bias[rows]

    def boxes(self, weight: np.ndarray, bias: np.ndarray) -> Parameters:
        rows = (self._classes(len(weight) // 4)[:, None] * 4 + np.arange(4)).ravel()
        return weight[rows], bias[rows]


def _convolution(weight: np.ndarray, bias: np.ndarray | None) -> Parameters:
    """Convert (out, in, h, w) to (h, w, in, out); the bias of a convolution before batch normalization is 0."""
    return weight.transpose(2, 3, 1, 0), np.zeros(len(weight), np.float32) if bias is None else bias


def _dense(weight: np.ndarray, bias: np.ndarray) -> Parameters:
    return weight.T, bias


def _flattened_dense(weight: np.ndarray, bias: np.ndarray) -> Parameters:
    """Reorder the inputs of the first dense layer from (channel, y, x) to (y, x, channel)."""
    if weight.shape[1] % POOL**2:
        return _dense(weight, bias)
    reordered = weight.reshape(len(weight), -1, POOL, POOL).transpose(2, 3, 1, 0)
    return reordered.reshape(-1, len(weight)), bias
