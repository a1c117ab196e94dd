"""Load initial weights by name or file, and select the configuration that they require."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn.config import BACKBONES, NAMED_WEIGHTS, PRETRAINED, WEIGHT_SUFFIXES, ModelConfig
from mrcnn.errors import InputError
from mrcnn.models.backbones.resnet import CLASSIFIERS
from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.pretrained.matterport import RESNET101_LAYER, convert_matterport, is_matterport
from mrcnn.models.pretrained.packaged import read_packaged_weights
from mrcnn.models.pretrained.report import SourceWeights, WeightReport, assign_weights
from mrcnn.models.pretrained.torchvision import convert_torchvision, is_torchvision, layer_names
from mrcnn.models.pretrained.weight_files import one_line, read_hdf5, read_keras, read_npz, read_safetensors

COCO_FILE = "mask_rcnn_coco.h5"
COCO_ADDRESS = f"https://github.com/matterport/Mask_RCNN/releases/download/v2.0/{COCO_FILE}"
COCO_MD5 = "e98aaff6f99e307b5e2a8a3ff741a518"
"""As published by NVIDIA (TensorRT, sampleUffMaskRCNN) and Alibaba (ai-matrix, macro_benchmark/Mask_RCNN)."""
MATTERPORT_SETTINGS = {
    "conventions": "matterport",
    "norm": "frozen_batch",
    "normalisation": "imagenet",
    "channels": 3,
    "fpn_channels": 256,
    "head_width": 1024,
    "mask_channels": 256,
    "mask_convolutions": 4,
    "pool_size": 7,
    "mask_pool_size": 14,
    "class_agnostic": False,
    "roi_canonical_size": 224.0,
    "anchor_sizes": ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
    # Matterport's 0.5, 1, 2 are width / height.
    "anchor_ratios": (2.0, 1.0, 0.5),
    "nms_iou": 0.3,
}
"""Configuration of matterport's model: architecture, conventions and matching training settings."""
TORCHVISION_SETTINGS = {
    **MATTERPORT_SETTINGS,
    "conventions": "torchvision",
    "anchor_ratios": (0.5, 1.0, 2.0),
    "nms_iou": 0.5,
}
_INHERITED = (
    "conventions", "image_size", "channels", "normalisation", "backbone", "norm", "fpn_channels", "head_width",
    "mask_channels", "mask_convolutions", "anchor_sizes", "anchor_ratios", "roi_canonical_size", "pool_size",
    "mask_pool_size", "class_agnostic",
)  # fmt: skip
"""Fields that a model inherits from the model of its initial weights."""
_OF_DATA = ("image_size", "anchor_sizes", "anchor_ratios", "roi_canonical_size", "mask_pool_size")
"""Fields that fit a network to its images, which it does not inherit from a network trained on phantoms."""


def load_weights(model: MaskRCNN, spec: str | Path) -> WeightReport:
    """Load the weights `spec` into `model`. Layers of other shapes keep their values; the report lists them.

    Args:
        model: model to change.
        spec: `none`; `imagenet` (backbone, from a package or Keras's download); `coco` (matterport's release file,
            downloaded into Keras's cache and verified by its digest); or a file: `.keras`, `.weights.h5`, `.h5` of
            matterport or Keras 2, a state dict of torchvision's `maskrcnn_resnet50_fpn` as `.safetensors` or `.npz`.

    Raises:
        InputError: the file does not exist or is not readable, its weights need other conventions, or no layer fits.
    """
    if spec == "none":
        return WeightReport("none", notes=("all layers start from random numbers",))
    if spec == "imagenet":
        return load_imagenet(model)
    path = download_coco_weights() if spec == "coco" else find_weight_file(spec)
    sources, names, conventions = _read(path, model.config)
    if conventions is not None and conventions != model.config.conventions:
        raise InputError(
            f"{path}: these weights need conventions={conventions}, found conventions={model.config.conventions}"
        )
    report = assign_weights(model, sources, names, str(path))
    if not report.loaded:
        raise InputError(
            f"{path}: none of its {len(names)} layers fits this model (backbone={model.config.backbone}, "
            f"fpn_channels={model.config.fpn_channels}); it has {', '.join(names[:4])}, …"
        )
    return _with_notes(report, model.config)


def settings_for(spec: str | Path, backbone: str = "resnet50") -> dict[str, Any]:
    """Return the fields of `ModelConfig` that the weights `spec` of `load_weights` require, by name.

    Empty if the weights do not determine the configuration. `imagenet` depends on the configured backbone.

    Raises:
        InputError: the file does not exist or is not readable.
    """
    if spec == "none":
        return {}
    if spec == "imagenet":
        # EfficientNet-Lite takes any number of channels, and medical images normalized one by one: on MRI slices of
        # several scanners it learned far more from these than from the fixed scale of its ImageNet training.
        colored = BACKBONES[backbone].imagenet_pixels != "symmetric"
        return {"norm": "frozen_batch", **({"normalisation": "imagenet", "channels": 3} if colored else {})}
    if spec == "coco":
        return {**MATTERPORT_SETTINGS, "backbone": "resnet101"}
    path = find_weight_file(spec)
    if path.suffix == ".keras":
        config = ModelConfig.model_validate(read_keras(path)[1])
        fitted = _OF_DATA if path.stem == PRETRAINED else ()
        return {name: getattr(config, name) for name in _INHERITED if name not in fitted}
    if path.suffix in (".h5", ".hdf5"):
        layers = read_hdf5(path)
        if is_matterport(layers):
            return {**MATTERPORT_SETTINGS, "backbone": "resnet101" if RESNET101_LAYER in layers else "resnet50"}
    if path.suffix in (".safetensors", ".npz"):
        tensors = _tensors(path)
        if is_torchvision(tensors):
            deep = any(name.startswith("backbone.body.layer3.6.") for name in tensors)
            return {**TORCHVISION_SETTINGS, "backbone": "resnet101" if deep else "resnet50"}
    return {}


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_npz(path)


def find_weight_file(spec: str | Path) -> Path:
    """Return the path of the weight file `spec`.

    Raises:
        InputError: the file does not exist or has an unknown suffix.
    """
    path = Path(spec).expanduser()
    if not path.name.endswith(WEIGHT_SUFFIXES):
        names, suffixes = ", ".join(NAMED_WEIGHTS), ", ".join(WEIGHT_SUFFIXES)
        raise InputError(f"weights={spec}: expected {names} or a file ({suffixes})")
    if not path.is_file():
        raise InputError(f"weights={spec}: {path.absolute()} does not exist")
    return path


def download_coco_weights() -> Path:
    """Return the path of matterport's COCO weights in Keras's cache, after a download if necessary.

    Raises:
        InputError: the download failed or has another digest.
    """
    try:
        return Path(
            keras.utils.get_file(
                COCO_FILE, COCO_ADDRESS, cache_subdir="models", file_hash=COCO_MD5, hash_algorithm="md5"
            )
        )
    except Exception as error:
        raise InputError(
            f"weights=coco: {COCO_FILE} is not in Keras's cache and the download failed ({one_line(error)}). "
            "Without a network: put it into ~/.keras/models on this machine, or give its path as "
            f"weights=…/{COCO_FILE}, or train from scratch with weights=none"
        ) from error


def load_imagenet(model: MaskRCNN | Classifier) -> WeightReport:
    """Load ImageNet weights into the backbone: of a package, or of Keras, which downloads, caches and verifies them.

    Raises:
        InputError: the configuration has no such weights, the package is missing, or the download failed.
    """
    config = model.config
    if BACKBONES[config.backbone].imagenet_pixels is None:
        expected = ", ".join(name for name, properties in BACKBONES.items() if properties.imagenet_pixels)
        raise InputError(f"weights=imagenet: backbone={config.backbone} has none, expected one of {expected}")
    if config.norm == "group":
        raise InputError("weights=imagenet: norm=group has no pretrained weights, expected frozen_batch or batch")
    if config.backbone not in CLASSIFIERS:
        sources = read_packaged_weights(config.backbone, config.channels, config.context_slices)
        names = [name for each in sources.values() for name in each.origins]
        return assign_weights(model, sources, names, "imagenet")
    if config.normalisation != "imagenet":
        raise InputError(f"weights=imagenet: expected normalisation=imagenet, found {config.normalisation}")
    if config.conventions != "paper":
        raise InputError(f"weights=imagenet: expected conventions=paper, found {config.conventions}")
    make, _ = CLASSIFIERS[config.backbone]
    try:
        source = make(include_top=False, weights="imagenet", input_shape=(*config.input_shape, 3))
    except Exception as error:
        raise InputError(
            f"weights=imagenet: the weights of {config.backbone} are not in Keras's cache and the download failed "
            f"({one_line(error)}). Without a network: put the file into ~/.keras/models on this machine, or "
            "train from scratch with weights=none norm=group, or take backbone=small weights=none"
        ) from error
    sources = {
        layer.name: SourceWeights(layer.get_weights(), (layer.name,)) for layer in source.layers if layer.weights
    }
    return assign_weights(model, sources, list(sources), "imagenet")


def _read(path: Path, config: ModelConfig) -> tuple[Mapping[str, SourceWeights], list[str], str | None]:
    """Read a file: its weights by the names of this project's layers, its layer names, its conventions if known."""
    if path.suffix in (".safetensors", ".npz"):
        tensors = _tensors(path)
        if not is_torchvision(tensors):
            raise InputError(f"{path}: expected the state dict of torchvision's maskrcnn_resnet50_fpn")
        return convert_torchvision(tensors, config.class_names), layer_names(tensors), "torchvision"
    if path.suffix == ".keras":
        layers, described = read_keras(path)
        conventions = described.get("conventions", "paper")
    else:
        layers, conventions = read_hdf5(path), None
    if is_matterport(layers):
        return convert_matterport(layers), list(layers), "matterport"
    return (
        {name: SourceWeights(list(values.values()), (name,)) for name, values in layers.items()},
        list(layers),
        conventions,
    )


def _with_notes(report: WeightReport, config: ModelConfig) -> WeightReport:
    """Add notes on classes and anchors that differ from those of the file."""
    notes = []
    if any(each.found and each.layer in ("head_class", "head_box", "mask_logits") for each in report.skipped):
        notes.append(f"the file is for other classes than the {len(config.class_names)} here: their layers start anew")
    if config.conventions == "matterport" and not np.allclose(config.anchor_ratios, (2, 1, 0.5)):
        notes.append("anchor_ratios differ from the [2, 1, 0.5] of its training: proposals must be learned anew")
    return replace(report, notes=tuple(notes))
