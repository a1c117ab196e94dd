"""Plan what a task leaves open, from the training split, the device and the budget; each decision has its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from pydantic import ValidationError

from experiments.config.model_options import STRENGTHS, ModelOptions
from experiments.config.overrides import merged
from experiments.config.resolve import check
from experiments.config.schema import PLANNED_EPOCHS, EvaluateOptions, TaskConfig
from experiments.preparation.datasets import with_volume_options
from experiments.training import budget
from experiments.training.resolution import (
    CROWD,
    Decide,
    is_crowded,
    network_boxes,
    plan_canvas,
    plan_mask_pool_size,
    plan_tile,
    sampled_masks,
    scale_for,
)
from mrcnn.backend import computes_in_bfloat16, device_memory
from mrcnn.config import BACKBONES, ModelConfig, height_and_width
from mrcnn.data import Dataset
from mrcnn.data.dataset import Record
from mrcnn.data.transforms.cropping import most_in_a_tile, tile_count
from mrcnn.errors import InputError, counted
from mrcnn.geometry.anchors import AnchorFit, fit_anchors
from mrcnn.inference.tiles import tile_corners
from mrcnn.models.pretrained.initial_weights import settings_for
from mrcnn.models.pretrained.packaged import packaged_weights

IMAGES_FOR_CHANNELS = 16
"""Training images read to distinguish grayscale from color, spread over the split."""
ENOUGH_RECALL = 0.8
"""Recall of the anchors on the training boxes below which a larger input is suggested."""
LIGHT = {"fpn_channels": 64, "head_width": 256, "mask_channels": 64, "mask_convolutions": 2}
"""Widths of the other layers with a light backbone, a quarter of the paper's: wider ones would dominate the time."""
DEFAULT_BACKBONE = "efficientnet_lite0"
"""Backbone for real images where its ImageNet weights are installed."""
CANONICAL = 0.4375
"""Side of the region pooled from P4 in sides of the input: 224 of 512 (Lin et al. 2017, section 4.1)."""
EMA_WINDOWS = 40
"""Windows of the moving average of the weights in a training: each is half a planned epoch."""
SIDES = re.compile(r"(^|[^a-z])(left|right)([^a-z]|$)", re.IGNORECASE)
AUGMENTATION: Mapping[str, Mapping[str, float]] = {
    "image": {"brightness": 0.15, "contrast": 0.3, "gamma": 0.3, "blur_sigma": 1.0, "noise": 0.03},
    "ultrasound": {"brightness": 0.1, "contrast": 0.3, "gamma": 0.3, "blur_sigma": 1.5, "noise": 0.05},
    "mri": {"brightness": 0.1, "contrast": 0.3, "gamma": 0.4, "blur_sigma": 1.0, "noise": 0.03},
    "xray": {"brightness": 0.15, "contrast": 0.4, "gamma": 0.5, "blur_sigma": 1.5, "noise": 0.03, "invert": 0.5},
    "ct": {"brightness": 0.1, "contrast": 0.2, "gamma": 0.2, "blur_sigma": 1.0, "noise": 0.03},
}
"""Strengths by modality; another modality has those of `image`."""
GEOMETRY = {"rotate_degrees": 15, "scale": 0.5, "translate": 0.1}


@dataclass(frozen=True)
class Decision:
    """A planned setting: its name, its value and the reason, for a line of the terminal."""

    name: str
    value: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """A configuration with nothing left open, and how it came about.

    Attributes:
        config: the task with all planned options.
        model: the configuration of the model.
        weights: initial weights, downloaded if they are a run's or a registered model's.
        decisions: of the options that were `auto`.
        anchor_fit: how well fitted anchors cover the training boxes; None where the anchors are configured, or there
            are too few boxes to fit to and the paper's are used.
        crowded: number of training images with more instances than `max_instances`.
        draws: images that the training draws without a budget; None where `train.epochs` or its steps are given.
        budget: seconds that the training may take; None: no bound.
        fewest_validated: images that a validation may be limited to; None: it may not be limited.
        seconds: expected time of the training.
        gib: expected memory.
    """

    config: TaskConfig
    model: ModelConfig
    weights: str
    decisions: tuple[Decision, ...]
    anchor_fit: AnchorFit | None
    crowded: int
    draws: int | None
    budget: float | None
    fewest_validated: int | None
    seconds: float
    gib: float

    def measures(self) -> dict[str, float]:
        """Return metrics of the fitted anchors on the training boxes; empty where anchors are configured."""
        fit = self.anchor_fit
        return {"anchors/mean_best_iou": fit.mean_best_iou, "anchors/recall": fit.recall} if fit else {}

    def lines(self) -> list[str]:
        """Format each decision with its reason, and the expected time and memory, for the terminal."""
        width = max((len(each.name) for each in self.decisions), default=0)
        found = [f"  {each.name:{width}}  {each.value}: {each.reason}" for each in self.decisions]
        minutes = self.seconds / 60
        time = f"{minutes:.0f} min" if minutes >= 2 else f"{self.seconds:.0f} s"
        return [*found, f"  Expected: about {time} of training and {self.gib:.1f} GiB of memory"]

    def describe(self, weights: int) -> str:
        """Format the model, with its number of `weights`, for the terminal."""
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
            f"up to {counted(model.max_instances, 'instance')}, {weights / 1e6:.1f} M weights, "
            f"{self.config.train.precision}\n"
            f"Anchors: {sizes} px, height/width {ratios}{quality}{advice}"
        )


def make_plan(
    config: TaskConfig, training: Dataset, fetch: Callable[[str], str] = str, *, validation_images: int = 0
) -> Plan:
    """Decide all options that are `auto`.

    `fetch` returns the file of `train.weights`, which may be in a run or the registry.

    Raises:
        InputError: the options do not fit the data, such as class weights for other classes.
    """
    config = resolve_runtime_options(config, training)
    train, (kind, memory) = config.train, device_memory()
    free = psutil.virtual_memory().available if memory is None else memory
    decisions: list[Decision] = []

    def decide(name: str, value: object, reason: str) -> None:
        decisions.append(Decision(name, str(value), reason))

    backbone, weights = _start(config, decide)
    file = fetch(weights)
    options = with_settings(config.model, {"backbone": backbone, **settings_for(file, backbone)})
    effort, bound = budget.PRESETS[train.preset], budget.budget_seconds(train, kind)
    planned = _channels(options, training, config.data.context_slices, decide)
    size, tile = options.image_size, config.data.tile
    masks = sampled_masks(training) if "auto" in (size, tile, options.mask_pool_size) else []
    reference = budget.reference_seconds(train.precision)

    def model_config(**more: Any) -> ModelConfig:
        try:
            return options.to_model_config(training.class_names, **{**planned, **slots, **more})
        except ValidationError as error:
            raise InputError(f"model.{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error

    slots = _slots(options, training, None if tile == "auto" else tile)
    if "auto" in (size, tile):
        scale, why = scale_for(training, masks)
        if size == "auto":
            unit = budget.estimated_seconds(model_config(image_size=256), reference)
            square = options.conventions == "matterport"
            size, reason = plan_canvas(
                training, None if tile == "auto" else tile, (scale, why), effort, bound, unit, square
            )
        if tile == "auto":
            tile, side = plan_tile(training, (scale, why), size, options.image_size, decide)
            if tile is not None and options.image_size == "auto":
                size, reason = side, "95% of the instances fit into the overlap of neighboring tiles"
        if options.image_size == "auto":
            decide("canvas", "{}×{}".format(*height_and_width(size)), reason)
    planned |= {"image_size": size, "tile": tile}
    slots = _slots(options, training, tile)
    if options.max_instances == "auto":
        reason = "the most in a training image" if tile is None else "no training tile has the centers of more"
        decide("instances", slots["max_instances"], reason)
    height, width = height_and_width(size)
    planned["roi_canonical_size"] = CANONICAL * math.sqrt(height * width)
    if options.mask_pool_size == "auto":
        planned["mask_pool_size"] = plan_mask_pool_size(training, masks, (height, width), tile, decide)
    fit = None
    if options.anchor_sizes == "auto" or options.anchor_ratios == "auto":
        fit = fit_anchors(network_boxes(training, (height, width), tile))
    if fit is not None:
        planned |= {"anchor_sizes": fit.sizes, "anchor_ratios": fit.ratios}
    model = model_config()
    each = budget.estimated_seconds(model, reference)
    batch = _batch_size(config, model, kind, free, decide)
    filled = with_model(config, model).model_copy(update={"augment": _augmentation(config, training, decide)})
    filled = filled.model_copy(update={"evaluate": _test_time_flips(filled, decide)})
    filled = filled.model_copy(update={"data": filled.data.model_copy(update={"tile": tile})})
    images, per_image = len(training), 1.0
    if tile is not None:
        images = sum(tile_count(record.height, record.width, tile) for record in training.records)
        per_image = float(np.mean([len(tile_corners(each.height, each.width, tile)) for each in training.records]))
    validation_seconds = _validation_seconds(each, per_image, config.evaluate)
    limited = config.evaluate.validation_images == "auto"
    fewest = math.ceil(budget.FEWEST_VALIDATED / per_image) if limited else None
    filled, draws = _schedule(
        filled, images, validation_images, batch, weights, model.backbone, effort.images(images), bound, each,
        validation_seconds, fewest, decide,
    )  # fmt: skip
    done = filled.train
    steps = done.epochs * (done.steps_per_epoch or -(-images // batch))
    validated = min(validation_images, filled.evaluate.validation_images or validation_images) * done.epochs
    return Plan(
        config=filled,
        model=model,
        weights=file,
        decisions=tuple(decisions),
        anchor_fit=fit if fit is not None and options.anchor_sizes == options.anchor_ratios == "auto" else None,
        crowded=sum(_instances(record, tile) > model.max_instances for record in training.records),
        draws=draws,
        budget=bound,
        fewest_validated=fewest,
        seconds=steps * batch * each + validated * validation_seconds + budget.START,
        gib=budget.estimated_memory(model, batch, done.precision),
    )


def _start(config: TaskConfig, decide: Decide) -> tuple[str, str]:
    """Choose the backbone and the initial weights."""
    options, weights = config.model, config.train.weights
    backbone = DEFAULT_BACKBONE if options.backbone == "auto" else options.backbone
    installed = packaged_weights(backbone) is not None and options.norm != "group"
    if weights == "auto":
        weights = "imagenet" if installed else "none"
        if installed or options.backbone != "small":
            decide("weights", weights, f"those of {backbone} are {'installed' if installed else 'not installed'}")
    if options.backbone == "auto":
        if weights not in ("none", "imagenet"):
            return "resnet50", weights  # unless the file says another one
        backbone = "small" if weights == "none" else backbone if installed else "resnet50"
        reason = "made for training from scratch" if weights == "none" else "the smallest whose weights are at hand"
        decide("backbone", backbone, reason)
    return backbone, weights


def _channels(options: ModelOptions, training: Dataset, context_slices: int, decide: Decide) -> dict[str, Any]:
    """Choose channels and normalization.

    Raises:
        InputError: the channels that are stated, or those of the weights, are not those of all slices.
    """
    # Conventions other than the paper's are those of networks pretrained on color images.
    foreign = options.conventions not in ("auto", "paper")
    channels, slices = options.channels, 2 * context_slices + 1
    if channels == "auto":
        channels = 3 if foreign else channels_of(training)
        found = "the training images are gray" if channels == 1 else "as the training images have them"
        found = f"{slices} slices of {channels}, {found}" if context_slices else found
        channels *= slices
        decide("channels", channels, "as the weights expect" if foreign else found)
    elif context_slices and channels != slices * (of_slice := channels_of(training)):
        raise InputError(
            f"data.context_slices={context_slices}: the model or its weights have {channels} channels; expected "
            f"{slices * of_slice}, {slices} slices of {of_slice}: other weights, or data.context_slices=0"
        )
    return {
        "channels": channels,
        "context_slices": context_slices,
        "norm": "batch" if foreign else "group",
        "normalisation": "imagenet" if foreign and channels == 3 else "image",
    }


def _slots(options: ModelOptions, training: Dataset, tile: int | None) -> dict[str, Any]:
    """Choose widths and slots, for the most instances in a training image, or in a tile."""
    most = options.max_instances
    if most == "auto":
        most = max((_instances(record, tile) for record in training.records), default=0) or 1
    planned = {
        "max_instances": most,
        "max_detections": max(100, 2 * most),
        "proposals": 1000,
        "proposals_per_level": 1000,
        "rpn_samples": 256,
        "roi_samples": 128,
    }
    if BACKBONES[options.backbone].light:
        proposals = min(max(100, 4 * most), 1000)
        planned |= LIGHT | {
            "proposals": proposals,
            "proposals_per_level": max(200, proposals),
            "rpn_samples": 128 if most <= 16 else 256,
            # A quarter of the samples may be positive.
            "roi_samples": int(np.clip(4 * most, 64, 256)),
        }
    return planned


def _instances(record: Record, tile: int | None) -> int:
    """Return the number of instances of an image, or the most in one of its tiles."""
    return len(record.class_ids) if tile is None else most_in_a_tile(record, tile)


def _batch_size(config: TaskConfig, model: ModelConfig, kind: str, free: int, decide: Decide) -> int:
    """Choose the batch size by the device and its memory, a multiple of the number of devices."""
    if config.train.batch_size != "auto":
        return config.train.batch_size
    batch = usual = 8 if kind == "gpu" else 4
    while batch > 1 and budget.estimated_memory(model, batch, config.train.precision) > 0.7 * free / 2**30:
        batch //= 2
    if isinstance(config.train.devices, int):
        batch = -(-batch // config.train.devices) * config.train.devices
    memory = f", within 70 % of {free / 2**30:.0f} GiB" if batch < usual else ""
    decide(
        "batch size", batch, f"more bring no speed on a {kind.upper()}{memory}" if kind == "cpu" else f"a GPU{memory}"
    )
    return batch


def _augmentation(config: TaskConfig, training: Dataset, decide: Decide) -> Any:
    """Choose the strengths that are `auto`, by the modality and the classes."""
    given = config.augment
    names = [name for name in STRENGTHS if getattr(given, name) == "auto"]
    if not names:
        return given
    sided = [name for name in training.class_names if SIDES.search(name.replace("_", " "))]
    crowded = is_crowded(training)
    mirrored = 0.0 if sided and not given.flip_swaps else 0.5
    chosen = {
        "flip_horizontal": mirrored,
        "flip_vertical": mirrored if crowded else 0.0,
        **GEOMETRY,
        **AUGMENTATION.get(config.modality, AUGMENTATION["image"]),
    }
    if crowded and mirrored:
        chosen["rotate_degrees"] = 180
    chosen = {name: float(chosen.get(name, 0)) for name in names}
    strengths = ", ".join(f"{name} {value:g}" for name, value in chosen.items() if value)
    reason = f"usual for the modality {config.modality}"
    if crowded and "flip_vertical" in names:
        reason += f"; upside down too, since images hold {CROWD} instances or more in the median"
    if not mirrored and "flip_horizontal" in names:
        reason += f"; no mirror images, since {sided[0]} names a side"
    decide("augmentation", strengths or "none", reason)
    return given.model_copy(update=chosen)


def _test_time_flips(config: TaskConfig, decide: Decide) -> EvaluateOptions:
    """Choose whether the detections of an image and its mirror images are fused."""
    evaluate, flips = config.evaluate, config.augment.flips
    if evaluate.tta == "auto":
        evaluate = evaluate.model_copy(update={"tta": bool(flips)})
        if flips:
            decide("test time", f"flips, {' and '.join(flips)}",
                   f"as in the augmentation; a prediction takes {2 ** len(flips)} times as long")  # fmt: skip
    return evaluate


def _schedule(
    config: TaskConfig, images: int, validation_images: int, batch: int, weights: str, backbone: str, draws: int,
    bound: float | None, each: float, validation: float,
    fewest: int | None, decide: Decide,
) -> tuple[TaskConfig, int | None]:  # fmt: skip
    """Choose the length of the training, the validations, the learning rate and the initial weights.

    Returns:
        The configuration, and the images that the training draws without a budget; None where its length is given.
    """
    train, evaluate = config.train, config.evaluate
    update: dict[str, Any] = {"batch_size": batch, "weights": weights}
    limit, epochs, steps = evaluate.validation_images, train.epochs, train.steps_per_epoch
    planned = draws if epochs == steps == "auto" else None
    if planned is not None:
        length = budget.planned_length(bound, draws, batch, validation_images, each * batch, validation, fewest)
        epochs, steps = length.epochs, length.steps_per_epoch
        passes = round(epochs * steps * batch / max(images, 1))
        of = "image" if config.data.tile is None else "tile"
        reason = f"{counted(passes, 'pass', 'passes')} over {counted(images, of)}"
        reason += f", as many as fit into {bound / 60:g} min" if bound and epochs * steps * batch < draws else ""
        decide("schedule", f"{counted(epochs, 'epoch')} of {counted(steps, 'step')}", reason)
        if limit == "auto":
            limit = length.validation_images
            if limit is not None:
                decide(
                    "validation",
                    f"{limit} of {counted(validation_images, 'image')}",
                    "a sixth of the training's time at most",
                )
    epochs = PLANNED_EPOCHS if epochs == "auto" else epochs
    steps, limit = (None if value == "auto" else value for value in (steps, limit))
    update |= {"epochs": epochs, "steps_per_epoch": steps}
    total = epochs * (steps or -(-images // batch))
    if train.learning_rate == "auto":
        rate = (1e-3 if BACKBONES[backbone].light else 1e-4) * (10 if train.optimizer == "sgd" else 1)
        update["learning_rate"] = rate
        decide("learning rate", f"{rate:g}", f"usual for {train.optimizer} and the backbone {backbone}")
    if train.warmup_steps == "auto":
        update["warmup_steps"] = min(max(50, total // 50), total // 4)
    if train.ema == "auto":
        update["ema"] = max(1 - EMA_WINDOWS / total, 0.0)
    if train.patience == "auto":
        update["patience"] = 8 if planned is not None else 0
    evaluate = evaluate.model_copy(update={"validation_images": limit})
    return config.model_copy(update={"train": train.model_copy(update=update), "evaluate": evaluate}), planned


def with_measured_time(plan: Plan, step: float, validation: float, validation_images: int) -> tuple[TaskConfig, str]:
    """Fit the number of steps, and of validated images, to the budget; return the configuration and a line to print.

    `step` and `validation` are the measured seconds of a training step and of a validated image without its losses.
    """
    train, evaluate = plan.config.train, plan.config.evaluate
    validation += budget.LOSSES * evaluate.validation_loss * step / train.batch_size
    assert plan.draws is not None
    length = budget.planned_length(
        plan.budget, plan.draws, train.batch_size, validation_images, step, validation, plan.fewest_validated
    )
    limit = evaluate.validation_images if plan.fewest_validated is None else length.validation_images
    update = {"epochs": length.epochs, "steps_per_epoch": length.steps_per_epoch}
    config = plan.config.model_copy(
        update={
            "train": train.model_copy(update=update),
            "evaluate": evaluate.model_copy(update={"validation_images": limit}),
        }
    )
    planned = f"{counted(length.epochs, 'epoch')} of {counted(length.steps_per_epoch, 'step')}"
    line = f"A step takes {step:.2f} s: {planned}"
    if limit is not None:
        line += f", each validated on {limit} of {counted(validation_images, 'image')}"
    return config, line


def _validation_seconds(each: float, tiles: float, options: EvaluateOptions) -> float:
    """Return the seconds of a validated image of so many `tiles`, 1 for whole images."""
    return (budget.PREDICTION + budget.LOSSES * options.validation_loss) * each * tiles + budget.METRICS


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


def with_model(config: TaskConfig, model: ModelConfig) -> TaskConfig:
    """Return `config` with all model options as in `model`."""
    options = {name: getattr(model, name) for name in type(config.model).model_fields}
    return config.model_copy(update={"model": config.model.model_copy(update=options)})


def shared_settings(planned: TaskConfig) -> dict[str, dict[str, Any]]:
    """Return what further trainings of one comparison share with a planned one, by section: not the architecture."""
    config = planned.model_dump(mode="json")
    sizes = {name: config["model"][name] for name in ("image_size", "mask_pool_size")}
    evaluate = {name: config["evaluate"][name] for name in ("validation_images", "tta")}
    data = {"tile": config["data"]["tile"]}
    return {"train": config["train"], "augment": config["augment"], "model": sizes, "evaluate": evaluate, "data": data}


def with_shared_settings(config: TaskConfig, settings: Mapping[str, Any]) -> TaskConfig:
    """Return `config` with `shared_settings` of another one."""
    return check(merged(config.model_dump(mode="json", exclude_unset=True), settings), "plan")


def channels_of(dataset: Dataset) -> int:
    """Return 1 for grayscale images, also those stored as RGB; otherwise 3, or the most channels of the files."""
    most = 1
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(IMAGES_FOR_CHANNELS, len(dataset)), dtype=int)):
        image = dataset.image(index)
        if image.shape[2] > 1 and not (image == image[..., :1]).all():
            most = max(most, image.shape[2])
    return most
