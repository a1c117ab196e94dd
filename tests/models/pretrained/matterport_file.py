"""Write weight files in matterport's layout with values that depend on the layer names only.

It needs NumPy and h5py only, so that the reference implementation's environment makes the very same file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
PYRAMID, POOL = 256, 7


def _numbers(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.uniform(low, high, shape).astype(np.float32)


def _kernel(name: str, shape: tuple[int, ...], inputs: int, gain: float = 1.0) -> np.ndarray:
    """Return uniform values of variance gain² · 2 / inputs (He et al. 2015), centered per output.

    Otherwise the common mean of the inputs would dominate the differences between regions.
    """
    limit = gain * np.sqrt(6 / inputs)
    kernel = _numbers(name, shape, -limit, limit)
    axes = (0, 1, 3) if len(shape) == 4 and name.startswith("mrcnn_mask_deconv") else tuple(range(len(shape) - 1))
    return kernel - kernel.mean(axis=axes, keepdims=True)


def _convolution(name: str, side: int, inputs: int, outputs: int, gain: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "kernel:0": _kernel(f"{name}/kernel", (side, side, inputs, outputs), side * side * inputs, gain),
        "bias:0": _numbers(f"{name}/bias", (outputs,), -0.1, 0.1),
    }


def _dense(name: str, inputs: int, outputs: int, gain: float) -> dict[str, np.ndarray]:
    return {
        "kernel:0": _kernel(f"{name}/kernel", (inputs, outputs), inputs, gain),
        "bias:0": _numbers(f"{name}/bias", (outputs,), -0.1, 0.1),
    }


def _batch_norm(name: str, channels: int, gain: float = 1.0) -> dict[str, np.ndarray]:
    # Small variances in some channels, where epsilon matters.
    return {
        "gamma:0": _numbers(f"{name}/gamma", (channels,), 0.7 * gain, 1.3 * gain),
        "beta:0": _numbers(f"{name}/beta", (channels,), -0.2, 0.2),
        "moving_mean:0": _numbers(f"{name}/mean", (channels,), -0.2, 0.2),
        "moving_variance:0": _numbers(f"{name}/variance", (channels,), 0.1, 2.0),
    }


def layers(backbone: str, classes: int) -> Iterator[tuple[str, dict[str, dict[str, np.ndarray]]]]:
    """Yield the groups of the file: (group, {layer: {weight: values}}); `classes` includes the background."""

    def single(name, weights):
        return name, {name: weights}

    # The image is in the hundreds: the first layer brings it down.
    yield single("conv1", _convolution("conv1", 7, 3, 64, 0.02))
    yield single("bn_conv1", _batch_norm("bn_conv1", 64))
    inputs, residual = 64, {"resnet50": 0.3, "resnet101": 0.12}[backbone]
    for stage, (blocks, width) in enumerate(zip(BLOCKS[backbone], (64, 128, 256, 512), strict=True), start=2):
        for block in range(blocks):
            name = f"{stage}{chr(ord('a') + block)}_branch"
            for part, side, depth, outputs in (("2a", 1, inputs, width), ("2b", 3, width, width),
                                               ("2c", 1, width, 4 * width)):  # fmt: skip
                yield single(f"res{name}{part}", _convolution(f"res{name}{part}", side, depth, outputs))
                # The last of a block is small where there are many, so that the sum over many blocks does not grow.
                yield single(
                    f"bn{name}{part}", _batch_norm(f"bn{name}{part}", outputs, residual if part == "2c" else 1.0)
                )
            if block == 0:
                yield single(f"res{name}1", _convolution(f"res{name}1", 1, inputs, 4 * width))
                yield single(f"bn{name}1", _batch_norm(f"bn{name}1", 4 * width))
            inputs = 4 * width
    for level, depth in zip((5, 4, 3, 2), (2048, 1024, 512, 256), strict=True):
        yield single(f"fpn_c{level}p{level}", _convolution(f"fpn_c{level}p{level}", 1, depth, PYRAMID, 0.5))
        yield single(f"fpn_p{level}", _convolution(f"fpn_p{level}", 3, PYRAMID, PYRAMID))
    yield (
        "rpn_model",
        {
            "rpn_conv_shared": _convolution("rpn_conv_shared", 3, PYRAMID, 512),
            "rpn_class_raw": _convolution("rpn_class_raw", 1, 512, 6, 0.1),
            "rpn_bbox_pred": _convolution("rpn_bbox_pred", 1, 512, 12, 0.05),
        },
    )
    yield single("mrcnn_class_conv1", _convolution("mrcnn_class_conv1", POOL, PYRAMID, 1024))
    yield single("mrcnn_class_bn1", _batch_norm("mrcnn_class_bn1", 1024))
    yield single("mrcnn_class_conv2", _convolution("mrcnn_class_conv2", 1, 1024, 1024))
    yield single("mrcnn_class_bn2", _batch_norm("mrcnn_class_bn2", 1024))
    yield single("mrcnn_bbox_fc", _dense("mrcnn_bbox_fc", 1024, 4 * classes, 0.1))
    yield single("mrcnn_class_logits", _dense("mrcnn_class_logits", 1024, classes, 0.35))
    for number in (1, 2, 3, 4):
        yield single(f"mrcnn_mask_conv{number}", _convolution(f"mrcnn_mask_conv{number}", 3, PYRAMID, PYRAMID))
        yield single(f"mrcnn_mask_bn{number}", _batch_norm(f"mrcnn_mask_bn{number}", PYRAMID))
    yield single("mrcnn_mask_deconv", {
        "kernel:0": _kernel("mrcnn_mask_deconv/kernel", (2, 2, PYRAMID, PYRAMID), PYRAMID),
        "bias:0": _numbers("mrcnn_mask_deconv/bias", (PYRAMID,), -0.1, 0.1),
    })  # fmt: skip
    yield single("mrcnn_mask", _convolution("mrcnn_mask", 1, PYRAMID, classes, 1.5))


def write_matterport_file(path: Path | str, *, backbone: str = "resnet50", classes: int = 5) -> None:
    """Write the file like Keras 2: a group per layer, weights by name, the RPN nested in `rpn_model`."""
    with h5py.File(path, "w") as file:
        names = []
        for group_name, parts in layers(backbone, classes):
            names.append(group_name.encode())
            group = file.create_group(group_name)
            inside = []
            for layer, weights in parts.items():
                for weight, values in weights.items():
                    inside.append(f"{layer}/{weight}".encode())
                    group.create_dataset(f"{layer}/{weight}", data=values)
            group.attrs["weight_names"] = inside
        file.attrs["layer_names"] = names
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.1.2"


def test_image(height: int, width: int) -> np.ndarray:
    """Return an RGB uint8 image of bright and dark discs on a gradient with noise."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:height, :width]
    image = np.stack([90 + 60 * x / width, 120 + 50 * y / height, 110 + 40 * (x + y) / (height + width)], axis=-1)
    for _ in range(14):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        radius, color = rng.uniform(0.03, 0.2) * max(height, width), rng.uniform(0, 255, 3)
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = color
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


test_image.__test__ = False
