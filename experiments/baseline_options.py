"""The `baseline` section of a task: what of the ResUNet and of the classifier differs from the Mask R-CNN."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mrcnn.baseline_config import ResUNetConfig


class BaselineOptions(BaseModel):
    """The models that `mrcnn baselines` trains. Input, training, augmentation and evaluation are the task's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unet_widths: tuple[int, ...] = Field(
        (32, 64, 128, 256), description="channels of the ResUNet at strides 1, 2, 4, …; multiples of 16"
    )
    unet_loss: Literal["dice_cross_entropy", "focal_tversky"] = Field(
        "dice_cross_entropy", description="of the ResUNet; focal_tversky minds missed pixels more than false ones"
    )
    classifier_backbone: Literal["small", "resnet50", "resnet101"] = Field(
        "small", description="of the classifier; small is made for training from scratch on little data"
    )
    classifier_weights: Literal["none", "imagenet"] = Field(
        "none", description="that the classifier starts from; imagenet is downloaded, and train.stages then hold for it"
    )
    classifier_balance: bool = Field(
        True, description="train the classifier on positive and negative images equally often"
    )
    classifier_threshold: Literal["youden"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "youden",
        description="least probability of a positive image, which the cascade's segmenter sees; youden: the one with "
        "the highest sensitivity + specificity on the validation split",
    )

    @model_validator(mode="after")
    def _check(self) -> BaselineOptions:
        if self.classifier_weights == "imagenet" and self.classifier_backbone == "small":
            raise ValueError(
                "classifier_weights=imagenet: expected none with classifier_backbone=small, which has none"
            )
        try:
            ResUNetConfig(class_names=("any",), widths=self.unet_widths)
        except ValidationError as error:
            raise ValueError(f"unet_{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        return self
