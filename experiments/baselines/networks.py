"""Configure the networks of the baselines from the task and its training split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from experiments.config.resolve import parameters
from experiments.config.schema import TaskConfig
from experiments.training.planner import channels_of
from mrcnn.config import ClassifierConfig, InputConfig, ResUNetConfig
from mrcnn.data import Dataset
from mrcnn.data.transforms.dense_encoding import classes_overlap, infer_binary_labels
from mrcnn.errors import InputError
from mrcnn.models.pretrained.initial_weights import settings_for

Config = TypeVar("Config", bound=InputConfig)


def resunet_config(config: TaskConfig, training: Dataset) -> ResUNetConfig:
    """Configure the ResUNet: the input of the Mask R-CNN, and a softmax over the classes if they do not overlap."""
    limit = config.model.max_detections
    if limit == "auto":
        limit = max(100, 2 * max((len(record.class_ids) for record in training.records), default=0))
    return _checked(
        ResUNetConfig,
        **_input(config, training, {}),
        tile=config.data.tile,
        class_names=training.class_names,
        widths=config.baseline.unet_widths,
        exclusive=len(training.class_names) > 1 and not classes_overlap(training),
        loss=config.baseline.unet_loss,
        max_detections=limit,
    )


def classifier_config(config: TaskConfig, training: Dataset, others: Iterable[Dataset]) -> ClassifierConfig:
    """Configure the classifier: the input of the Mask R-CNN or of ImageNet weights, and the labels of all splits."""
    backbone = config.baseline.classifier_backbone
    settings = settings_for(config.baseline.classifier_weights, backbone)
    records = [record for part in (training, *others) for record in part.records]
    labels, by_label = infer_binary_labels(records, training.class_names)
    return _checked(
        ClassifierConfig,
        **_input(config, training, settings),
        class_names=labels,
        by_label=by_label,
        backbone=backbone,
        norm=settings.get("norm", "group"),
    )


def recorded(config: TaskConfig, network: InputConfig) -> dict[str, object]:
    """Return the parameters of the run: those of the task, with this network in place of the Mask R-CNN."""
    task = {name: value for name, value in parameters(config).items() if not name.startswith("model.")}
    return task | {f"network.{name}": value for name, value in network.model_dump(mode="json").items()}


def starting_from(config: TaskConfig, weights: str) -> TaskConfig:
    """Return `config` with other initial weights, which decide whether stages freeze layers."""
    return config.model_copy(update={"train": config.train.model_copy(update={"weights": weights})})


def _input(config: TaskConfig, training: Dataset, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `InputConfig`; `settings` are those that the initial weights require."""
    options = config.model
    channels, normalisation = options.channels, options.normalisation
    if channels == "auto":
        channels = settings.get("channels") or (2 * config.data.context_slices + 1) * channels_of(training)
    if normalisation == "auto":
        normalisation = settings.get("normalisation", "image")
    return {
        "image_size": options.image_size,
        "channels": channels,
        "context_slices": config.data.context_slices,
        "normalisation": normalisation,
        "equalise": options.equalise,
    }


def _checked(kind: type[Config], **fields: Any) -> Config:
    try:
        return kind(**fields)
    except ValidationError as error:
        raise InputError(f"model.{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
