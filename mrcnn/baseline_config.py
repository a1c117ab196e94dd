"""Everything that decides the architecture and targets of the two baselines: the ResUNet and the slice classifier."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class InputConfig(BaseModel):
    """What a network's input is made of; the fields are those of `mrcnn.config.ModelConfig`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(256, ge=64, le=4096)
    channels: int = Field(1, ge=1, le=16)
    normalisation: Literal["image", "imagenet", "none"] = "image"
    equalise: Literal["none", "histogram", "clahe"] = "none"
    # Others are Mask R-CNN's alone; it stands here for what images and backbones are made by.
    conventions: Literal["paper"] = "paper"
    class_names: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check_input(self) -> InputConfig:
        if self.image_size % 32:
            raise ValueError(f"image_size={self.image_size}: expected a multiple of 32")
        if self.normalisation == "imagenet" and self.channels != 3:
            raise ValueError(f"channels={self.channels}: expected 3 with normalisation=imagenet")
        return self


class ResUNetConfig(InputConfig):
    """Configuration of a `ResUNet`."""

    # Channels at strides 1, 2, 4, …; the last are the bridge's. Zhang et al. 2018, table 1, has 64, 128, 256, 512.
    widths: tuple[int, ...] = (32, 64, 128, 256)
    norm: Literal["group", "batch"] = "group"
    # Whether a pixel belongs to one class at most (softmax), or may belong to several (a sigmoid each).
    exclusive: bool = False
    loss: Literal["dice_cross_entropy", "focal_tversky"] = "dice_cross_entropy"
    max_detections: int = Field(100, ge=1)

    @property
    def maps(self) -> int:
        """Channels of the output: a class each, and the background where one of them is true."""
        return len(self.class_names) + self.exclusive

    @model_validator(mode="after")
    def _check(self) -> ResUNetConfig:
        if not 2 <= len(self.widths) <= 6 or any(width < 16 or width % 16 for width in self.widths):
            raise ValueError(f"widths={list(self.widths)}: expected 2 to 6 multiples of 16, the channels of each level")
        return self


class ClassifierConfig(InputConfig):
    """Configuration of a `Classifier`, which tells two kinds of image apart.

    Attributes:
        class_names: the negative label, then the positive one.
        by_label: whether an image is positive by its label, or by having an instance.
        slope, intercept: Platt's calibration of the logit; see `mrcnn.metrics.calibration`.
    """

    backbone: Literal["small", "resnet50", "resnet101"] = "small"
    norm: Literal["group", "batch", "frozen_batch"] = "group"
    by_label: bool = False
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0

    @model_validator(mode="after")
    def _check(self) -> ClassifierConfig:
        if len(self.class_names) != 2:
            raise ValueError(f"class_names={list(self.class_names)}: expected the negative and the positive label")
        return self
