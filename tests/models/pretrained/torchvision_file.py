"""Create a state dict of torchvision's `maskrcnn_resnet50_fpn` whose values depend on the tensor names only."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

BLOCKS = (3, 4, 6, 3)


def _numbers(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.uniform(low, high, shape).astype(np.float32)


def _kernel(name: str, shape: tuple[int, ...], gain: float = 1.0, *, transposed: bool = False) -> np.ndarray:
    """Return a kernel, outputs first, of variance gain² · 2 / inputs, centered per output."""
    inputs = shape[0] if transposed else int(np.prod(shape[1:]))
    limit = gain * np.sqrt(6 / inputs)
    kernel = _numbers(name, shape, -limit, limit)
    axes = (0, 2, 3) if transposed else tuple(range(1, len(shape)))
    return kernel - kernel.mean(axis=axes, keepdims=True)


def _with_bias(name: str, shape: tuple[int, ...], gain: float = 1.0, *, transposed: bool = False):
    yield f"{name}.weight", _kernel(f"{name}.weight", shape, gain, transposed=transposed)
    yield f"{name}.bias", _numbers(f"{name}.bias", (shape[1] if transposed else shape[0],), -0.1, 0.1)


def _batch_norm(name: str, channels: int, gain: float = 1.0):
    yield f"{name}.weight", _numbers(f"{name}.weight", (channels,), 0.7 * gain, 1.3 * gain)
    yield f"{name}.bias", _numbers(f"{name}.bias", (channels,), -0.2, 0.2)
    yield f"{name}.running_mean", _numbers(f"{name}.running_mean", (channels,), -0.2, 0.2)
    yield f"{name}.running_var", _numbers(f"{name}.running_var", (channels,), 0.1, 2.0)
    yield f"{name}.num_batches_tracked", np.array(0, np.int64)


def tensors(classes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and values; `classes` includes the background."""
    body = "backbone.body"
    yield f"{body}.conv1.weight", _kernel("conv1", (64, 3, 7, 7), 1.0)
    yield from _batch_norm(f"{body}.bn1", 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS, (64, 128, 256, 512), strict=True), start=1):
        for block in range(blocks):
            name = f"{body}.layer{stage}.{block}"
            shapes = ((width, inputs, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1))
            for part, shape in enumerate(shapes, start=1):
                yield f"{name}.conv{part}.weight", _kernel(f"{name}.conv{part}", shape)
                yield from _batch_norm(f"{name}.bn{part}", shape[0], 0.3 if part == 3 else 1.0)
            if block == 0:
                yield f"{name}.downsample.0.weight", _kernel(f"{name}.downsample.0", (4 * width, inputs, 1, 1))
                yield from _batch_norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    for level, depth in enumerate((256, 512, 1024, 2048)):
        yield from _with_bias(f"backbone.fpn.inner_blocks.{level}.0", (256, depth, 1, 1), 0.5)
        yield from _with_bias(f"backbone.fpn.layer_blocks.{level}.0", (256, 256, 3, 3))
    yield from _with_bias("rpn.head.conv.0.0", (256, 256, 3, 3))
    yield from _with_bias("rpn.head.cls_logits", (3, 256, 1, 1), 0.15)
    yield from _with_bias("rpn.head.bbox_pred", (12, 256, 1, 1), 0.005)
    heads = "roi_heads"
    yield from _with_bias(f"{heads}.box_head.fc6", (1024, 256 * 7 * 7))
    yield from _with_bias(f"{heads}.box_head.fc7", (1024, 1024))
    yield from _with_bias(f"{heads}.box_predictor.cls_score", (classes, 1024), 0.35)
    yield from _with_bias(f"{heads}.box_predictor.bbox_pred", (4 * classes, 1024), 0.1)
    for i in range(4):
        yield from _with_bias(f"{heads}.mask_head.{i}.0", (256, 256, 3, 3))
    yield from _with_bias(f"{heads}.mask_predictor.conv5_mask", (256, 256, 2, 2), transposed=True)
    yield from _with_bias(f"{heads}.mask_predictor.mask_fcn_logits", (classes, 256, 1, 1), 1.5)
