"""Convert the weights of matterport's Mask R-CNN; batch normalization of the heads is folded into the layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrcnn.models.pretrained.report import SourceWeights

EPSILON = 1e-3
"""Epsilon of matterport's batch normalization."""
KERAS_EPSILON = 1.001e-5
"""Epsilon of the ResNet of keras.applications."""
PROPOSAL_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
"""Factors of matterport for the outputs of the proposal head; here part of its weights."""
XYWH = [1, 0, 3, 2]
"""Indices of (dx, dy, dw, dh) in (dy, dx, dh, dw)."""
BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
RESNET101_LAYER = "res4g_branch2a"
"""A layer of ResNet-101 that ResNet-50 lacks."""

Layers = Mapping[str, Mapping[str, np.ndarray]]


def is_matterport(layers: Layers) -> bool:
    """Return whether the layers are those of matterport's Mask R-CNN."""
    return bool({"res2a_branch2a", "rpn_conv_shared", "mrcnn_class_conv1", "mrcnn_mask_conv1"} & set(layers))


def convert_matterport(layers: Layers) -> dict[str, SourceWeights]:
    """Convert `layers`, by layer and weight name ("kernel", "bias", "gamma", …), to weights by this project's names."""
    converted = {}
    for ours, theirs in {**_backbone_names(layers), **_pyramid_names()}.items():
        if theirs in layers:
            read = _batch_norm if ours.endswith("_bn") else _plain
            converted[ours] = SourceWeights(read(layers[theirs]), (theirs,))
    for ours, theirs, norm in (
        ("head_dense1", "mrcnn_class_conv1", "mrcnn_class_bn1"),
        ("head_dense2", "mrcnn_class_conv2", "mrcnn_class_bn2"),
        *((f"mask_conv{i}", f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}") for i in range(1, 5)),
    ):
        if theirs in layers and norm in layers:
            kernel, bias = _folded(layers[theirs], layers[norm])
            # The convolution covers its whole input, so it is a dense layer.
            kernel = kernel.reshape(-1, kernel.shape[-1]) if ours.startswith("head") else kernel
            converted[ours] = SourceWeights([kernel, bias], (theirs, norm))
    for ours, theirs, change in (
        ("rpn_conv", "rpn_conv_shared", lambda w: w),
        ("rpn_class", "rpn_class_raw", _one_logit),
        ("rpn_box", "rpn_bbox_pred", lambda w: _xywh(w) * np.tile(PROPOSAL_DEVIATIONS, w.shape[-1] // 4)),
        ("head_class", "mrcnn_class_logits", lambda w: w),
        # Matterport has a box and a mask of the background.
        ("head_box", "mrcnn_bbox_fc", lambda w: _xywh(w)[..., 4:]),
        ("mask_deconv", "mrcnn_mask_deconv", lambda w: w),
        ("mask_logits", "mrcnn_mask", lambda w: w[..., 1:]),
    ):
        if theirs in layers:
            converted[ours] = SourceWeights([change(value) for value in _plain(layers[theirs])], (theirs,))
    return converted


def _backbone_names(layers: Layers) -> dict[str, str]:
    """Return matterport's names of the backbone's layers by this project's names."""
    names = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}
    parts = {"0": "branch1", "1": "branch2a", "2": "branch2b", "3": "branch2c"}
    blocks = {(stage, letter) for stage in "2345" for letter in "abcdefghijklmnopqrstuvwxyz"
              if f"res{stage}{letter}_branch2a" in layers}  # fmt: skip
    for stage, letter in sorted(blocks):
        ours = f"conv{stage}_block{ord(letter) - ord('a') + 1}"
        for number, part in parts.items():
            names[f"{ours}_{number}_conv"] = f"res{stage}{letter}_{part}"
            names[f"{ours}_{number}_bn"] = f"bn{stage}{letter}_{part}"
    return names


def _pyramid_names() -> dict[str, str]:
    names = {f"fpn_lateral{level}": f"fpn_c{level}p{level}" for level in (2, 3, 4, 5)}
    return {**names, **{f"fpn_output{level}": f"fpn_p{level}" for level in (2, 3, 4, 5)}}


def _plain(weights: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [weights[name] for name in ("kernel", "bias") if name in weights]


def _batch_norm(weights: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the weights with the variance changed by the difference of the epsilons."""
    values = {name: weights[name] for name in BATCH_NORM if name in weights}
    if "moving_variance" in values:
        values["moving_variance"] = values["moving_variance"].astype(np.float64) + (EPSILON - KERAS_EPSILON)
    return list(values.values())


def _folded(convolution: Mapping[str, np.ndarray], norm: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Fold a batch normalization into the kernel and the bias of its convolution."""
    gamma, beta, mean, variance = (norm[name].astype(np.float64) for name in BATCH_NORM)
    scale = gamma / np.sqrt(variance + EPSILON)
    return convolution["kernel"] * scale, (convolution["bias"] - mean) * scale + beta


def _one_logit(weight: np.ndarray) -> np.ndarray:
    """Convert (…, 2 · K) to (…, K): the softmax of background and object is the sigmoid of their difference."""
    pairs = weight.reshape(*weight.shape[:-1], -1, 2)
    return pairs[..., 1] - pairs[..., 0]


def _xywh(weight: np.ndarray) -> np.ndarray:
    """Reorder (…, 4 · K) from (dy, dx, dh, dw) to (dx, dy, dw, dh)."""
    return weight.reshape(*weight.shape[:-1], -1, 4)[..., XYWH].reshape(weight.shape)


COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = np.array([i for i in range(1, 91) if i not in _UNUSED_IDS])
"""COCO category ids of the classes; heads with one output per id have 91, background first."""
