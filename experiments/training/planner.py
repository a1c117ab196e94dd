"""Plan the model from the training split: classes, channels, most instances an image, anchors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from experiments.config.model_options import ModelOptions
from experiments.config.schema import TaskConfig
from experiments.preparation.datasets import with_volume_options
from mrcnn.backend import computes_in_bfloat16
from mrcnn.config import ModelConfig
from mrcnn.data import Dataset
from mrcnn.errors import InputError
from mrcnn.geometry.anchors import AnchorFit, fit_anchors
from mrcnn.models.pretrained.initial_weights import settings_for

IMAGES_FOR_CHANNELS = 16
"""Training images read to distinguish grayscale from color, spread over the split."""

ENOUGH_RECALL = 0.8
"""Recall of the anchors on the training boxes below which a larger input is suggested."""
SMALL = {"fpn_channels": 64, "head_width": 256, "mask_channels": 64, "mask_convolutions": 2}
"""Widths of the other layers with the small backbone, a quarter of the paper's: wider ones would dominate the time."""


@dataclass(frozen=True)
class Plan:
    """A model for a dataset.

    Attributes:
        model: its configuration.
        anchor_fit: how well fitted anchors cover the training boxes; None where the anchors are configured, or there
            are too few boxes to fit to and the paper's are used.
        crowded: number of training images with more instances than `max_instances`.
    """

    model: ModelConfig
    anchor_fit: AnchorFit | None
    crowded: int = 0

    def fill_in(self, config: TaskConfig) -> TaskConfig:
        """Return `config` with all model options of the plan."""
        options = {name: getattr(self.model, name) for name in type(config.model).model_fields}
        return config.model_copy(update={"model": config.model.model_copy(update=options)})

    def measures(self) -> dict[str, float]:
        """Return metrics of the fitted anchors on the training boxes; empty where anchors are configured."""
        fit = self.anchor_fit
        return {"anchors/mean_best_iou": fit.mean_best_iou, "anchors/recall": fit.recall} if fit else {}

    def describe(self, weights: int, precision: str) -> str:
        """Format the model, with its number of `weights` and its `precision`, for the terminal."""
        model, fit = self.model, self.anchor_fit
        height, width = model.input_shape
        sizes = " ".join("/".join(f"{size:g}" for size in level) for level in model.anchor_sizes)
        ratios = " ".join(f"{ratio:g}" for ratio in model.anchor_ratios)
        quality = f" (mean best IoU {fit.mean_best_iou:.2f}, {fit.recall:.0%} at 0.5 or more)" if fit else ""
        advice = ""
        if fit and fit.recall < ENOUGH_RECALL:
            advice = "\nnote: many instances are small for the network's grid; a larger model.image_size finds more"
        if self.crowded:
            advice += (
                f"\nnote: training images with more than model.max_instances={model.max_instances} instances: "
                f"{self.crowded}; of each the {model.max_instances} largest are taught"
            )
        return (
            f"Model: {model.backbone}, {height}×{width}×{model.channels}, norm {model.norm}, "
            f"up to {model.max_instances} instances, {weights / 1e6:.1f} M weights, {precision}\n"
            f"Anchors: {sizes} px, height/width {ratios}{quality}{advice}"
        )


def make_plan(config: TaskConfig, training: Dataset, weights: str | None = None) -> Plan:
    """Choose the model options that are `auto` from the data and from the initial weights.

    Args:
        weights: the downloaded file, where `train.weights` names a run or a registered model.

    Raises:
        InputError: the options do not fit the data, such as class weights for other classes.
    """
    weights = weights or config.train.weights
    options = with_settings(config.model, settings_for(weights, config.model.backbone))
    # Conventions other than the paper's are those of networks pretrained on color images.
    foreign = options.conventions not in ("auto", "paper")
    channels = options.channels
    if channels == "auto":
        channels = 3 if foreign else channels_of(training)
    most = options.max_instances
    if most == "auto":
        most = max((len(record.class_ids) for record in training.records), default=0) or 1
    planned = {
        "channels": channels,
        "norm": "batch" if foreign else "group",
        "normalisation": "imagenet" if foreign and channels == 3 else "image",
        "max_instances": most,
        "max_detections": max(100, 2 * most),
    }
    if options.backbone == "small":
        planned |= SMALL | {"proposals": min(max(100, 4 * most), 1000)}
    fit = None
    if options.anchor_sizes == "auto" or options.anchor_ratios == "auto":
        size = options.image_size
        fit = fit_anchors(network_boxes(training, (size, size) if isinstance(size, int) else size))
    if fit is not None:
        planned |= {"anchor_sizes": fit.sizes, "anchor_ratios": fit.ratios}
    try:
        model = options.to_model_config(training.class_names, **planned)
    except ValidationError as error:
        raise InputError(f"model.{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    used = fit is not None and options.anchor_sizes == options.anchor_ratios == "auto"
    crowded = sum(len(record.class_ids) > model.max_instances for record in training.records)
    return Plan(model, fit if used else None, crowded)


def resolve_runtime_options(config: TaskConfig, training: Dataset) -> TaskConfig:
    """Return `config` with the options that the data and the device decide: modalities of volumes, precision."""
    train = config.train
    if train.precision == "auto":
        train = train.model_copy(update={"precision": "mixed_bfloat16" if computes_in_bfloat16() else "float32"})
    return config.model_copy(update={"data": with_volume_options(config.data, training), "train": train})


def with_settings(options: ModelOptions, settings: Mapping[str, Any]) -> ModelOptions:
    """Return `options` with `settings` in place of those that are `auto` or not set."""
    stated = {name for name in options.model_fields_set if getattr(options, name) != "auto"}
    return options.model_copy(update={name: value for name, value in settings.items() if name not in stated})


def network_boxes(dataset: Dataset, canvas: tuple[int, int]) -> np.ndarray:
    """Return all boxes (N, 4) of a dataset in pixels of the network input of (height, width)."""
    height, width = canvas
    scaled = [record.boxes * min(height / record.height, width / record.width) for record in dataset.records]
    return np.concatenate(scaled or [np.zeros((0, 4), np.float32)])


def channels_of(dataset: Dataset) -> int:
    """Return 1 for grayscale images, also those stored as RGB; otherwise 3, or the most channels of the files."""
    most = 1
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(IMAGES_FOR_CHANNELS, len(dataset)), dtype=int)):
        image = dataset.image(index)
        if image.shape[2] > 1 and not (image == image[..., :1]).all():
            most = max(most, image.shape[2])
    return most
