"""Configuration of the architecture, shapes and training targets of the models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

STRIDES = (4, 8, 16, 32, 64)
"""Input pixels per cell of P2 … P6 (Lin et al. 2017, Feature Pyramid Networks, section 4)."""

Side = Annotated[int, Field(ge=64, le=4096)]
Size = Side | tuple[Side, Side]
"""Side of a square network input, or its height and width, in pixels."""
MOST_CONTEXT = 3
"""Most neighboring slices on each side that a model sees as channels."""
TILE_SIDES = (64, 8192)
"""Smallest and largest side of a tile in pixels of the image."""
Tile = Annotated[int, Field(ge=TILE_SIDES[0], le=TILE_SIDES[1])]


@dataclass(frozen=True)
class BackboneProperties:
    """What differs between backbones outside the network.

    Attributes:
        module: module of `mrcnn.models.backbones` with the function `build`.
        imagenet_pixels: normalization of the pixels for its ImageNet weights; None: it has no such weights.
        light: whether the other layers are planned a quarter as wide as in the paper, so that they do not dominate.
        step_cost: time of a training image of 256×256 pixels, with planned widths, in times of
            `experiments.training.budget.reference_seconds`.
        activation_gib: memory of a training image of 256×256 pixels in bfloat16, measured with `benchmarks.speed`.
    """

    module: str
    imagenet_pixels: Literal["caffe", "symmetric"] | None
    light: bool
    step_cost: float
    activation_gib: float


Backbone = Literal["small", "resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite1"]
BACKBONES: dict[str, BackboneProperties] = {
    "small": BackboneProperties("small", None, light=True, step_cost=27, activation_gib=0.03),
    "resnet50": BackboneProperties("resnet", "caffe", light=False, step_cost=300, activation_gib=0.4),
    "resnet101": BackboneProperties("resnet", "caffe", light=False, step_cost=400, activation_gib=0.5),
    "efficientnet_lite0": BackboneProperties(
        "efficientnet_lite", "symmetric", light=True, step_cost=50, activation_gib=0.08
    ),
    "efficientnet_lite1": BackboneProperties(
        "efficientnet_lite", "symmetric", light=True, step_cost=65, activation_gib=0.1
    ),
}
RESNETS = tuple(name for name, properties in BACKBONES.items() if properties.module == "resnet")


class ModelConfig(BaseModel):
    """Configuration of a `MaskRCNN`. Sizes are in pixels of the network input unless stated otherwise.

    Default values are those of Mask R-CNN (He et al. 2017, section 3.1) and FPN unless a comment gives another source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_names: tuple[str, ...] = Field(min_length=1, max_length=1000)
    # Implementation whose anchors, pooling and padding the network uses; see `mrcnn.models.mask_rcnn.conventions`.
    conventions: Literal["paper", "matterport", "torchvision"] = "paper"
    image_size: Size = 512
    channels: int = Field(default=3, ge=1, le=64)
    # The channels are those of 2n + 1 slices; see `mrcnn.data.sample.read_with_context`.
    context_slices: int = Field(default=0, ge=0, le=MOST_CONTEXT)
    # Side of the tiles in which the model trains on and detects in larger images, in pixels of the image; None: whole
    # images. See `mrcnn.data.transforms.cropping` and `mrcnn.inference.tiles`.
    tile: Tile | None = None
    # `image`: zero mean and unit variance per image, independent of the scanner's gain; `imagenet`: as for the ImageNet
    # weights of the backbone; `none`: the reader normalizes, as over a whole volume.
    normalisation: Literal["image", "imagenet", "none"] = "image"
    # Histogram equalization before the normalization; see `mrcnn.data.transforms.equalization`.
    equalise: Literal["none", "histogram", "clahe"] = "none"

    backbone: Backbone = "resnet50"
    # `group` trains from scratch with two images per batch (Wu & He 2018); `frozen_batch` is for pretrained weights.
    norm: Literal["group", "batch", "frozen_batch"] = "group"
    # The upper limits bound the memory that an untrusted file can request.
    fpn_channels: int = Field(default=256, ge=16, le=1024)
    head_width: int = Field(default=1024, ge=16, le=4096)
    mask_channels: int = Field(default=256, ge=16, le=1024)
    mask_convolutions: int = Field(default=4, ge=1, le=32)

    anchor_sizes: tuple[tuple[float, ...], ...] = ((32,), (64,), (128,), (256,), (512,))
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    max_instances: int = Field(default=64, ge=1, le=10_000)
    rpn_positive_iou: float = Field(default=0.7, gt=0, le=1)
    rpn_negative_iou: float = Field(default=0.3, gt=0, le=1)
    rpn_samples: int = Field(default=256, ge=2, le=100_000)
    proposals_per_level: int = Field(default=1000, ge=1, le=100_000)
    proposals: int = Field(default=1000, ge=1, le=100_000)
    proposal_nms_iou: float = Field(default=0.7, gt=0, le=1)

    roi_positive_iou: float = Field(default=0.5, gt=0, le=1)
    roi_samples: int = Field(default=128, ge=4, le=10_000)
    roi_canonical_size: float = Field(default=224.0, gt=0)
    pool_size: int = Field(default=7, ge=1, le=14)
    mask_pool_size: int = Field(default=14, ge=1, le=56)

    class_agnostic: bool = False
    class_weights: tuple[float, ...] | None = None
    focal_gamma: float = Field(default=0.0, ge=0)

    max_detections: int = Field(default=100, ge=1, le=10_000)
    score_threshold: float = Field(default=0.05, ge=0, le=1)
    nms_iou: float = Field(default=0.5, gt=0, le=1)

    @property
    def mask_size(self) -> int:
        """Side of a predicted mask; the mask head doubles the pooled size."""
        return 2 * self.mask_pool_size

    @property
    def target_mask_size(self) -> int:
        """Side of a true mask in a batch, twice the predicted side, so that crops preserve detail."""
        return 2 * self.mask_size

    @property
    def roi_positives(self) -> int:
        """Number of slots of `roi_samples` for positives: a quarter (Girshick 2015, Fast R-CNN, section 2.3)."""
        return self.roi_samples // 4

    @property
    def anchors_per_cell(self) -> int:
        return len(self.anchor_sizes[0]) * len(self.anchor_ratios)

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the network input."""
        return height_and_width(self.image_size)

    @property
    def grid_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of cells of P2 … P6."""
        height, width = self.input_shape
        return tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES)

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        _check_size(self.image_size)
        if self.conventions == "matterport" and not isinstance(self.image_size, int):
            raise ValueError(f"image_size={list(self.image_size)}: expected a square with conventions=matterport")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names={list(self.class_names)}: expected each name once")
        if len(self.anchor_sizes) != len(STRIDES) or len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ValueError(
                f"anchor_sizes={self.anchor_sizes}: expected {len(STRIDES)} levels with as many sizes each"
            )
        if min(min(sizes, default=0) for sizes in self.anchor_sizes) <= 0 or min(self.anchor_ratios, default=0) <= 0:
            raise ValueError("anchor_sizes, anchor_ratios: expected at least one of each, all above 0")
        if self.rpn_negative_iou > self.rpn_positive_iou:
            raise ValueError(
                f"rpn_negative_iou={self.rpn_negative_iou}: expected at most rpn_positive_iou={self.rpn_positive_iou}"
            )
        if self.class_weights is not None and len(self.class_weights) != len(self.class_names) + 1:
            raise ValueError(
                f"class_weights has {len(self.class_weights)} values: expected {len(self.class_names) + 1}, "
                "background first"
            )
        if self.conventions != "paper":
            expected = {"backbone": RESNETS, "norm": ("frozen_batch", "batch"), "normalisation": ("imagenet",)}
            for name, values in expected.items():
                if getattr(self, name) not in values:
                    raise ValueError(
                        f"{name}={getattr(self, name)}: expected {' or '.join(values)} with "
                        f"conventions={self.conventions}"
                    )
        _check_channels(self)
        return self


class InputConfig(BaseModel):
    """Configuration of the input of a baseline; the fields have the meaning of `ModelConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: Size = 256
    channels: int = Field(default=1, ge=1, le=64)
    context_slices: int = Field(default=0, ge=0, le=MOST_CONTEXT)
    tile: Tile | None = None
    normalisation: Literal["image", "imagenet", "none"] = "image"
    equalise: Literal["none", "histogram", "clahe"] = "none"
    # Image preparation and backbones read it; only Mask R-CNN has other values.
    conventions: Literal["paper"] = "paper"
    class_names: tuple[str, ...] = Field(min_length=1)

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of the network input."""
        return height_and_width(self.image_size)

    @model_validator(mode="after")
    def _check_input(self) -> InputConfig:
        _check_size(self.image_size)
        _check_channels(self)
        return self


def pixel_normalization(config: ModelConfig | InputConfig) -> Literal["image", "none", "caffe", "torch", "symmetric"]:
    """Return the normalization of `mrcnn.data.transforms.normalization` that `normalisation` means for a backbone."""
    if config.conventions == "torchvision":
        return "torch"
    if config.normalisation != "imagenet":
        return config.normalisation
    backbone = getattr(config, "backbone", None)
    return (BACKBONES[backbone].imagenet_pixels if backbone else None) or "caffe"


def _check_channels(config: ModelConfig | InputConfig) -> None:
    """Check that a normalization with a mean per color gets colors, and that all slices have the same channels.

    Raises:
        ValueError: it does not, or they have not.
    """
    slices = 2 * config.context_slices + 1
    if pixel_normalization(config) in ("caffe", "torch"):
        if config.context_slices:
            raise ValueError(f"context_slices={config.context_slices}: expected 0 with normalisation=imagenet")
        if config.channels != 3:
            raise ValueError(f"channels={config.channels}: expected 3 with normalisation=imagenet")
    if config.channels % slices:
        raise ValueError(
            f"channels={config.channels}: expected a multiple of {slices}, the slices of "
            f"context_slices={config.context_slices}"
        )


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a `Size`."""
    return (size, size) if isinstance(size, int) else size


def _check_size(size: int | tuple[int, int]) -> None:
    if any(side % 32 for side in height_and_width(size)):
        given = size if isinstance(size, int) else list(size)
        raise ValueError(f"image_size={given}: expected a multiple of 32, the stride of the last stage")


class ResUNetConfig(InputConfig):
    """Configuration of a `ResUNet`."""

    # Channels at strides 1, 2, 4, …; the last is the bridge. Zhang et al. 2018, table 1: 64, 128, 256, 512.
    widths: tuple[int, ...] = (32, 64, 128, 256)
    norm: Literal["group", "batch"] = "group"
    # One class at most per pixel (softmax), or several (one sigmoid per class).
    exclusive: bool = False
    loss: Literal["dice_cross_entropy", "focal_tversky"] = "dice_cross_entropy"
    max_detections: int = Field(default=100, ge=1)

    @property
    def maps(self) -> int:
        """Channels of the output: one per class, and the background if `exclusive`."""
        return len(self.class_names) + self.exclusive

    @model_validator(mode="after")
    def _check(self) -> ResUNetConfig:
        if not 2 <= len(self.widths) <= 6 or any(width < 16 or width % 16 for width in self.widths):
            raise ValueError(f"widths={list(self.widths)}: expected 2 to 6 multiples of 16, the channels of each level")
        return self


class ClassifierConfig(InputConfig):
    """Configuration of a binary `Classifier` of images.

    Attributes:
        class_names: the negative label, then the positive one.
        by_label: whether the label or the presence of an instance makes an image positive.
        slope: factor of the logit in Platt calibration; see `mrcnn.metrics.calibration`.
        intercept: summand of the logit in Platt calibration.
    """

    backbone: Backbone = "small"
    norm: Literal["group", "batch", "frozen_batch"] = "group"
    by_label: bool = False
    slope: float = Field(default=1.0, gt=0)
    intercept: float = 0.0

    @model_validator(mode="after")
    def _check(self) -> ClassifierConfig:
        if len(self.class_names) != 2:
            raise ValueError(f"class_names={list(self.class_names)}: expected the negative and the positive label")
        return self


NAMED_WEIGHTS = ("none", "imagenet", "coco")
WEIGHT_SUFFIXES = (".keras", ".weights.h5", ".h5", ".hdf5", ".safetensors", ".npz")
PRETRAINED = "pretrained"
"""Name of the file of a network that was trained on phantoms to start other trainings, without its suffix."""
