"""Where a training starts from: names and files of weights, and what a model must be to take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn.config import NAMED_WEIGHTS, WEIGHT_SUFFIXES, ModelConfig
from mrcnn.errors import InputError
from mrcnn.models.backbones.resnet import RESNETS
from mrcnn.models.baselines.classifier import Classifier
from mrcnn.models.mask_rcnn.model import MaskRCNN
from mrcnn.models.pretrained.matterport import BLOCKS_TELL, is_matterport, matterport_offers
from mrcnn.models.pretrained.report import Offer, WeightReport, assign_weights
from mrcnn.models.pretrained.torchvision import is_torchvision, layers_of, torchvision_offers
from mrcnn.models.pretrained.weight_files import in_one_line, read_hdf5, read_keras, read_npz, read_safetensors

COCO_FILE = "mask_rcnn_coco.h5"
COCO_ADDRESS = f"https://github.com/matterport/Mask_RCNN/releases/download/v2.0/{COCO_FILE}"
COCO_MD5 = "e98aaff6f99e307b5e2a8a3ff741a518"
"""As NVIDIA (TensorRT, sampleUffMaskRCNN) and Alibaba (ai-matrix, macro_benchmark/Mask_RCNN) publish it, each for its
own use of the file."""
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
    # Width / height in its order 0.5, 1, 2; ours is height / width.
    "anchor_ratios": (2.0, 1.0, 0.5),
    "nms_iou": 0.3,
}
"""What a model must be, or had best be, to run as matterport's."""
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
"""What a model takes over from the one that it starts from."""


def load_weights(model: MaskRCNN, spec: str | Path) -> WeightReport:
    """Give `model` the weights that `spec` names; layers that do not fit keep theirs, and the report says which.

    Args:
        spec: `none`; `imagenet` (backbone, by Keras's download); `coco` (matterport's release file, downloaded into
            Keras's cache and checked against its digest); or a file: `.keras`, `.weights.h5`, matterport's or Keras 2's
            `.h5`, a state dict of torchvision's `maskrcnn_resnet50_fpn` as `.safetensors` or `.npz`.

    Raises:
        InputError: there is no such file, it cannot be read, its weights are for other conventions, or none fits.
    """
    if spec == "none":
        return WeightReport("none", notes=("all layers start from random numbers",))
    if spec == "imagenet":
        return load_imagenet(model)
    path = coco_file() if spec == "coco" else weight_file(spec)
    offers, names, conventions = _read(path, model.config)
    if conventions is not None and conventions != model.config.conventions:
        raise InputError(
            f"{path}: these weights need conventions={conventions}, found conventions={model.config.conventions}"
        )
    report = assign_weights(model, offers, names, str(path))
    if not report.loaded:
        raise InputError(
            f"{path}: none of its {len(names)} layers fits this model (backbone={model.config.backbone}, "
            f"fpn_channels={model.config.fpn_channels}); it has {', '.join(names[:4])}, …"
        )
    return _with_notes(report, model.config)


def settings_for(spec: str | Path) -> dict[str, Any]:
    """Fields of `ModelConfig`, with values, that fit the weights of a whole model that `spec` names, as for
    `load_weights`; none where that is left to whoever asks.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if spec in ("none", "imagenet"):
        return {}
    if spec == "coco":
        return {**MATTERPORT_SETTINGS, "backbone": "resnet101"}
    path = weight_file(spec)
    if path.suffix == ".keras":
        config = ModelConfig.model_validate(read_keras(path)[1])
        return {name: getattr(config, name) for name in _INHERITED}
    if path.suffix in (".h5", ".hdf5"):
        layers = read_hdf5(path)
        if is_matterport(layers):
            return {**MATTERPORT_SETTINGS, "backbone": "resnet101" if BLOCKS_TELL in layers else "resnet50"}
    if path.suffix in (".safetensors", ".npz"):
        tensors = _tensors(path)
        if is_torchvision(tensors):
            deep = any(name.startswith("backbone.body.layer3.6.") for name in tensors)
            return {**TORCHVISION_SETTINGS, "backbone": "resnet101" if deep else "resnet50"}
    return {}


def _tensors(path: Path) -> dict[str, np.ndarray]:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_npz(path)


def weight_file(spec: str | Path) -> Path:
    """The file that `spec` names.

    Raises:
        InputError: it does not exist, or is of no kind that is known.
    """
    path = Path(spec).expanduser()
    if not path.name.endswith(WEIGHT_SUFFIXES):
        names, suffixes = ", ".join(NAMED_WEIGHTS), ", ".join(WEIGHT_SUFFIXES)
        raise InputError(f"weights={spec}: expected {names} or a file ({suffixes})")
    if not path.is_file():
        raise InputError(f"weights={spec}: {path.absolute()} does not exist")
    return path


def coco_file() -> Path:
    """Matterport's COCO weights in Keras's cache, downloaded when they are not there.

    Raises:
        InputError: they are not there and cannot be had, or what came has another digest.
    """
    try:
        return Path(
            keras.utils.get_file(
                COCO_FILE, COCO_ADDRESS, cache_subdir="models", file_hash=COCO_MD5, hash_algorithm="md5"
            )
        )
    except Exception as error:
        raise InputError(
            f"weights=coco: {COCO_FILE} is not in Keras's cache and the download failed ({in_one_line(error)}). "
            "Without a network: put it into ~/.keras/models on this machine, or give its path as "
            f"weights=…/{COCO_FILE}, or train from scratch with weights=none"
        ) from error


def load_imagenet(model: MaskRCNN | Classifier) -> WeightReport:
    """Give the backbone the ImageNet weights that Keras downloads, keeps in its cache and checks against a digest.

    Raises:
        InputError: the configuration cannot take them, or they are neither in the cache nor to be had.
    """
    config = model.config
    if config.backbone not in RESNETS:
        raise InputError(f"weights=imagenet: backbone={config.backbone} has none, expected one of {', '.join(RESNETS)}")
    if config.norm == "group":
        raise InputError("weights=imagenet: norm=group has no pretrained weights, expected frozen_batch or batch")
    if config.normalisation != "imagenet":
        raise InputError(f"weights=imagenet: expected normalisation=imagenet, found {config.normalisation}")
    if config.conventions != "paper":
        raise InputError(f"weights=imagenet: expected conventions=paper, found {config.conventions}")
    make, _ = RESNETS[config.backbone]
    try:
        source = make(include_top=False, weights="imagenet", input_shape=(config.image_size, config.image_size, 3))
    except Exception as error:
        raise InputError(
            f"weights=imagenet: the weights of {config.backbone} are not in Keras's cache and the download failed "
            f"({in_one_line(error)}). Without a network: put the file into ~/.keras/models on this machine, or "
            "train from scratch with weights=none norm=group, or take backbone=small weights=none"
        ) from error
    offers = {layer.name: Offer(layer.get_weights(), (layer.name,)) for layer in source.layers if layer.weights}
    return assign_weights(model, offers, list(offers), "imagenet")


def _read(path: Path, config: ModelConfig) -> tuple[Mapping[str, Offer], list[str], str | None]:
    """What a file offers our layers, the names of its own, and the conventions that it needs, where it tells."""
    if path.suffix in (".safetensors", ".npz"):
        tensors = _tensors(path)
        if not is_torchvision(tensors):
            raise InputError(f"{path}: expected the state dict of torchvision's maskrcnn_resnet50_fpn")
        return torchvision_offers(tensors, config.class_names), layers_of(tensors), "torchvision"
    if path.suffix == ".keras":
        layers, described = read_keras(path)
        conventions = described.get("conventions", "paper")
    else:
        layers, conventions = read_hdf5(path), None
    if is_matterport(layers):
        return matterport_offers(layers), list(layers), "matterport"
    return {name: Offer(list(values.values()), (name,)) for name, values in layers.items()}, list(layers), conventions


def _with_notes(report: WeightReport, config: ModelConfig) -> WeightReport:
    """Says what shapes alone do not."""
    notes = []
    if any(left.found and left.layer in ("head_class", "head_box", "mask_logits") for left in report.left_out):
        notes.append(f"the file is for other classes than the {len(config.class_names)} here: their layers start anew")
    if config.conventions == "matterport" and not np.allclose(config.anchor_ratios, (2, 1, 0.5)):
        notes.append("anchor_ratios differ from the [2, 1, 0.5] of its training: proposals must be learned anew")
    return replace(report, notes=tuple(notes))
