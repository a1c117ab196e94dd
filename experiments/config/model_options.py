"""Schema of the sections `model`, `augment` and `baseline` of a task, from the library's configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from mrcnn.config import Backbone, ModelConfig, ResUNetConfig
from mrcnn.data.transforms.augmentation import Augmentation

PLANNED = (
    "conventions", "image_size", "channels", "normalisation", "backbone", "norm", "anchor_sizes", "anchor_ratios",
    "max_instances", "fpn_channels", "head_width", "mask_channels", "mask_convolutions", "mask_pool_size",
    "rpn_samples", "proposals_per_level", "proposals", "roi_samples", "roi_canonical_size", "max_detections",
)  # fmt: skip
"""Fields that accept `auto`: `experiments.training.planner` decides them from the training split, the weights, the
device and the budget."""

DESCRIPTIONS = {
    "image_size": "side of the square network input in pixels, or [height, width]; multiples of 32; images are scaled "
    "and padded to it; auto: from the sizes of the training images and instances, and the budget",
    "conventions": "anchors, pooling and padding of an implementation, which pretrained weights need; auto: by weights",
    "channels": "channels of the network input; auto: 1 for gray images, else 3, for each of the slices of "
    "data.context_slices; always 3 with ImageNet weights of a ResNet",
    "normalisation": "image: zero mean and unit variance per image; imagenet: as its weights expect; none: as the "
    "reader returns it (brats: normalized over the volume); auto: imagenet with the weights of a ResNet, else image",
    "equalise": "equalization before normalization: histogram over the image, clahe tile by tile",
    "backbone": "feature extractor; small is for training from scratch on little data; auto: by the weights at hand",
    "norm": "normalization layers; auto: frozen_batch with ImageNet weights, group from scratch",
    "fpn_channels": "channels of every pyramid level; auto: 64 with the small backbone, else 256",
    "head_width": "units of the two dense layers of the box head; auto: 256 with the small backbone, else 1024",
    "mask_channels": "channels of the mask head; auto: 64 with the small backbone, else 256",
    "mask_convolutions": "3×3 convolutions of the mask head before it doubles its size; auto: 2 with the small "
    "backbone, else 4",
    "anchor_sizes": "anchor sides in input pixels, a list for each of five levels; auto: fitted to the training boxes",
    "anchor_ratios": "height / width of the anchors; auto: fitted to the training boxes",
    "max_instances": "slots for true instances per image; auto: the most that a training image holds",
    "rpn_positive_iou": "an anchor with at least this IoU with an instance is positive",
    "rpn_negative_iou": "an anchor below this IoU with every instance is negative",
    "rpn_samples": "anchors per image in the region proposal loss; auto: by backbone and max_instances",
    "proposals_per_level": "best anchors of each level that enter non-maximum suppression; auto: 200 or more by "
    "max_instances, 1000 with a ResNet",
    "proposals": "proposals per image after non-maximum suppression; auto: four for each of max_instances, from 100 to "
    "1000, with the small backbone, else 1000",
    "proposal_nms_iou": "IoU above which the lower-scored proposal is dropped",
    "roi_positive_iou": "a region with at least this IoU with an instance trains as its class",
    "roi_samples": "regions per image in the head losses; a quarter of them may be positive; auto: by max_instances",
    "roi_canonical_size": "side of the region in input pixels that is pooled from level P4; auto: 0.4375 times that of "
    "the input",
    "pool_size": "side of the pooled grid of the box head",
    "mask_pool_size": "side of the pooled grid of the mask head; masks have twice this side; auto: 14, or 28 where the "
    "training masks lose more than 0.005 of Dice in masks of 28 cells",
    "class_agnostic": "one box and one mask for all classes instead of one each",
    "class_weights": "weights of background and of each class in the class loss, or null",
    "focal_gamma": "exponent of the focal loss of the class head; 0 is cross-entropy",
    "max_detections": "most detections per image; auto: twice max_instances, at least 100",
    "score_threshold": "minimum score of a detection; choose a low one, average precision needs them",
    "nms_iou": "IoU above which the lower-scored detection of the same class is dropped",
}


def _options(of: type[BaseModel], descriptions: dict[str, str], planned: tuple[str, ...]) -> dict[str, Any]:
    """Return fields with the types, limits and defaults of `of`; those in `planned` are `auto` by default."""
    fields = {}
    for name, description in descriptions.items():
        stated = of.model_fields[name]
        kind = Annotated[stated.annotation, *stated.metadata] if stated.metadata else stated.annotation
        default = stated.default
        if name in planned:
            kind, default = Literal["auto"] | kind, "auto"
        fields[name] = (kind, Field(default=default, description=description))
    return fields


class Section(BaseModel):
    """Options that are fixed once read; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _ModelSection(Section):
    def to_model_config(self, class_names: tuple[str, ...], **planned: Any) -> ModelConfig:
        """Return the configuration of the model, with `planned` in place of every `auto`.

        Raises:
            pydantic.ValidationError: the values contradict each other.
        """
        given = {name: value for name, value in self.model_dump().items() if value != "auto"}
        return ModelConfig(class_names=class_names, **{**planned, **given})


STRENGTHS = tuple(name for name in Augmentation.model_fields if name != "flip_swaps")
"""Fields of the augmentation that accept `auto`, decided by modality and classes."""

if TYPE_CHECKING:

    class ModelOptions(_ModelSection):
        """Options of the model, each with the type of its field of `ModelConfig`."""

        def __getattr__(self, name: str) -> Any: ...

    class AugmentOptions(Augmentation):
        """An `Augmentation` once the plan has replaced every `auto`."""

else:
    ModelOptions = create_model(
        "ModelOptions", __base__=_ModelSection, __module__=__name__, **_options(ModelConfig, DESCRIPTIONS, PLANNED)
    )
    AugmentOptions = create_model(
        "AugmentOptions",
        __base__=Augmentation,
        __module__=__name__,
        **_options(
            Augmentation,
            {name: f"{Augmentation.model_fields[name].description}; auto: by the modality" for name in STRENGTHS},
            STRENGTHS,
        ),
    )


class BaselineOptions(Section):
    """Options of the models of `mrcnn baselines`, beside the training, augmentation and evaluation of the task."""

    unet_widths: tuple[int, ...] = Field(
        default=(32, 64, 128, 256), description="channels of the ResUNet at strides 1, 2, 4, …; multiples of 16"
    )
    unet_loss: Literal["dice_cross_entropy", "focal_tversky"] = Field(
        default="dice_cross_entropy",
        description="loss of the ResUNet; focal_tversky weights false negatives more than false positives",
    )
    classifier_backbone: Backbone = Field(
        default="small", description="backbone of the classifier; small is for training from scratch on little data"
    )
    classifier_weights: Literal["none", "imagenet"] = Field(
        default="none",
        description="initial weights of the classifier; imagenet comes as train.weights does, and uses train.stages",
    )
    classifier_balance: bool = Field(
        default=True, description="train the classifier on positive and negative images equally often"
    )
    classifier_threshold: Literal["youden"] | Annotated[float, Field(ge=0, le=1)] = Field(
        default="youden",
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
