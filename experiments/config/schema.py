"""Schema of the task files. `mrcnn train --help all` prints the description of each field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Never

from pydantic import Field, ValidationError, model_validator

from experiments.config.model_options import AugmentOptions, BaselineOptions, ModelOptions, Section
from mrcnn.config import MOST_CONTEXT, NAMED_WEIGHTS, PRETRAINED, WEIGHT_SUFFIXES, Tile
from mrcnn.data.annotation_formats import FORMATS
from mrcnn.data.reader_options import CsvOptions, MasksOptions, ViaOptions, VolumesOptions
from mrcnn.data.sample import SPACING_MM

WEIGHTS = re.compile(r"(runs|models):/.+|[0-9a-f]{32}")
"""Addresses of weights in MLflow; see `trackers.checkpoints.initial_weights`."""
Millimetres = Annotated[float, Field(ge=SPACING_MM[0], le=SPACING_MM[1])]
Share = Annotated[float, Field(ge=0, le=1)]
if TYPE_CHECKING:
    Auto = Never  # type checkers see the options as planned
    ReaderName = str
else:
    Auto = Literal["auto"]
    """Value of options that `experiments.training.planner` decides."""
    ReaderName = Literal["auto", *sorted(FORMATS)]
AUTO: Any = "auto"
Layers = Literal["heads", "5+", "4+", "3+", "all"]
Metric = Literal[
    "mask_ap", "mask_ap10", "mask_ap50", "mask_ap75", "box_ap", "box_ap10", "box_ap50", "box_ap75",
    "dice", "iou", "hd95", "precision", "recall", "f1", "froc", "detection_rate", "volume_dice", "volume_hd95",
]  # fmt: skip
PLANNED_EPOCHS = 20
"""Epochs of a planned training. Each ends with a validation, so they divide its steps whatever their number."""
BY_PATIENT = "patient"
"""Value of `data.splits` for a split by patient whatever the annotations state."""
LOWER_IS_BETTER = ("hd95", "volume_hd95")


class DataOptions(Section):
    """Images, annotations and splits."""

    dataset: str | None = Field(
        default=None,
        description="folder of images with their annotations, or the JSON file; null: phantoms, made on the first run",
    )
    reader: ReaderName = Field(
        default="auto",
        description="form of the annotations: NIfTI and DICOM volumes, COCO JSON, folders of *_k.tif and "
        "*_k_mask.tif (lgg), mask folders, files of an annotation tool, tables of run lengths or boxes (csv); "
        "auto: detected",
    )
    on_error: Literal["fail", "skip"] = Field(
        default="fail",
        description="handling of unreadable images and invalid annotations; fail: list all of them and stop before the "
        "training; skip: leave these images out, list them, and count them as data/skipped",
    )
    patient_pattern: str | None = Field(
        default=None,
        description="regular expression on the file name (volumes: case, lgg: folder) whose first group (or whole "
        "match) is the patient, for images whose annotations name none; an empty group: the image is its own patient",
    )
    masks: MasksOptions = MasksOptions()
    via: ViaOptions = ViaOptions()
    csv: CsvOptions = CsvOptions()
    volumes: VolumesOptions = VolumesOptions()
    near_duplicates: Literal["together", "ignore"] = Field(
        default="together",
        description="together: images that are nearly the same, mirrored or recolored ones included, stay in one "
        "split; ignore: they are not looked for",
    )
    empty_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="largest share of training images without instances, chosen at random, as most slices of a volume "
        "have none; null: all; validation and test always see all",
    )
    context_slices: int = Field(
        default=0,
        ge=0,
        le=MOST_CONTEXT,
        description="neighboring slices on each side that the model sees as channels beside those of a slice (2.5-D), "
        "for volumes and folders of numbered slices; the masks are those of the slice itself; 0: none",
    )
    tile: Auto | Tile | None = Field(
        default=AUTO,
        description="side, in pixels of the images, of the tiles in which the model trains on and predicts larger "
        "images; null: whole images, scaled to model.image_size; auto: where that would lose small instances",
    )
    split: tuple[Share, Share, Share] = Field(
        default=(0.8, 0.1, 0.1),
        description="shares of the patients that train, validate and test; a test share of 0 reports on validation",
    )
    splits: str | None = Field(
        default=None,
        description="JSON file with splits of your own, in place of split: {train: [names], val: [names], test: "
        "[names]}, the splits.json of a run, or nnU-Net's splits_final.json; patient: by split and split_seed; null: "
        "those of the annotation tool, if it states any and no patient is in two, else by split and split_seed",
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        description="cross-validation: the patients outside the test share are divided into so many folds, a model is "
        "trained without each, and all are registered together as one ensemble; null: one training",
    )
    split_seed: int | None = Field(
        default=None, ge=0, lt=2**32, description="random seed of the split alone; null: seed"
    )
    spacing_mm: Millimetres | tuple[Millimetres, Millimetres] | None = Field(
        default=None,
        description="size of a pixel, or [row, column], of images whose files name none; null: sizes are in pixels",
    )
    phantoms: Literal["thyroid", "brain_tumor", "brats", "lgg", "lung"] = Field(
        default="thyroid", description="kind of synthetic images that replace a dataset"
    )
    phantom_images: int = Field(
        default=240, ge=10, description="number of phantoms; for volumes (brats, lgg), number of patients"
    )
    phantom_seed: int = Field(default=0, ge=0, description="random seed of the phantoms")

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, given: Any) -> Any:
        """Read the reader `brats` and its section, of models and runs of version 0.1, as volumes."""
        if not isinstance(given, dict) or "brats" not in given:
            return given
        upgraded = {key: value for key, value in given.items() if key != "brats"}
        of_section = {key: value for key, value in (given["brats"] or {}).items() if value is not None}
        if given.get("reader") == "brats":
            upgraded |= {"reader": "volumes", "volumes": {"layout": "brats", **of_section}}
        return upgraded

    @model_validator(mode="after")
    def _check(self) -> DataOptions:
        if abs(sum(self.split) - 1) > 1e-6 or not (self.split[0] and self.split[1]):
            raise ValueError(
                f"split={list(self.split)}: expected three shares that sum to 1, of which only the last may be 0"
            )
        return self


class Stage(Section):
    """A part of the training with one set of trainable layers."""

    layers: Layers = Field(default="all", description="trainable layers; without pretrained weights always all")
    epochs: int | None = Field(default=None, ge=1, description="length of the stage; null: until train.epochs")
    learning_rate: float | None = Field(default=None, gt=0, description="null: train.learning_rate")


class TrainOptions(Section):
    """Training."""

    preset: Literal["fast", "standard", "best"] = Field(
        default="standard",
        description="effort of a planned training: on a CPU 5 minutes, 30 minutes or 3 hours, unless budget is given",
    )
    budget: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)?[smh]$",
        description="longest time of a planned training with its evaluation, such as 90s, 30m or 2h, which bounds the "
        "size of the input and the number of steps; null: by preset on a CPU, no bound on a GPU",
    )
    epochs: Auto | Annotated[int, Field(ge=1)] = Field(
        default=AUTO,
        description="epochs over all stages, each followed by a validation; auto: 20, of as many steps as the "
        "number of training images and the budget give",
    )
    steps_per_epoch: Auto | Annotated[int, Field(ge=1)] | None = Field(
        default=AUTO,
        description="null: once through the training images; auto: that, unless epochs is auto",
    )
    batch_size: Auto | Annotated[int, Field(ge=1)] = Field(
        default=AUTO, description="images per step; auto: 4, on a GPU 8, or less by the memory"
    )
    stages: tuple[Stage, ...] = Field(
        default=(Stage(),),
        description="run one after another until train.epochs; each {layers: heads | 5+ | 4+ | 3+ | all, epochs: n, "
        "learning_rate: x}, of which epochs and learning_rate may be left out; without pretrained weights all learns",
    )
    weights: str = Field(
        default=AUTO,
        description="auto: imagenet where a package has the weights of the backbone on this machine, else none, which "
        "trains from scratch; imagenet, of a ResNet downloaded; coco, matterport's Mask R-CNN, downloaded; last is the "
        "newest finished run of the task; a run's id, runs:/…, models:/name@alias; or a file "
        f"({', '.join(WEIGHT_SUFFIXES)})",
    )
    optimizer: Literal["sgd", "adamw"] = Field(default="adamw", description="SGD with momentum, or AdamW")
    learning_rate: Auto | Annotated[float, Field(gt=0)] = Field(
        default=AUTO,
        description="learning rate after the warm-up; auto: 0.001, with a ResNet 0.0001, with SGD ten times as much",
    )
    schedule: Literal["constant", "cosine", "step"] = Field(
        default="cosine", description="learning rate within a stage; step: /10 after 2/3 and 8/9 of it"
    )
    warmup_steps: Auto | Annotated[int, Field(ge=0)] = Field(
        default=AUTO, description="steps over which each stage's learning rate rises; auto: 2 % of all, at least 50"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of SGD")
    weight_decay: float = Field(default=1e-4, ge=0, description="decoupled; not applied to biases and normalization")
    clip_norm: float | None = Field(
        default=5.0, gt=0, description="largest global norm of the gradients; null: no limit"
    )
    ema: Auto | Annotated[float, Field(ge=0, lt=1)] = Field(
        default=AUTO,
        description="momentum of the moving average of the weights that is validated and saved in place of the last "
        "weights; 0: none; auto: over a fortieth of the steps",
    )
    precision: Literal["auto", "float32", "mixed_bfloat16"] = Field(
        default="auto",
        description="precision of the network; auto: mixed_bfloat16 on a GPU, or with TensorFlow on a processor "
        "(AVX-512 BF16, AMX), that computes in it, else float32",
    )
    patience: Auto | Annotated[int, Field(ge=0)] = Field(
        default=AUTO,
        description="validations without a better evaluate.metric, as the mean of the last three, before stopping; "
        "0: never; auto: 8 where epochs is auto, else 0",
    )
    validate_every: int = Field(
        default=1, ge=1, description="epochs between validations; the last epoch is always validated"
    )
    workers: int = Field(default=1, ge=0, description="processes that prepare batches; 0: a thread")
    devices: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="devices of this machine that share each batch; their number must divide batch_size",
    )
    seeds: int | None = Field(
        default=None,
        ge=2,
        description="trainings on the same split, with seed, seed + 1, …; mean and spread are reported, and the best "
        "on the validation split is registered; null: one training",
    )

    @property
    def starts_from_model(self) -> bool:
        """Whether the initial weights are those of another training, whose images are unknown and no phantoms."""
        return self.weights not in (AUTO, *NAMED_WEIGHTS) and not self.weights.startswith(f"models:/{PRETRAINED}-")

    @model_validator(mode="after")
    def _check(self) -> TrainOptions:
        if not (
            self.weights in ("auto", *NAMED_WEIGHTS, "last")
            or WEIGHTS.fullmatch(self.weights)
            or self.weights.endswith(WEIGHT_SUFFIXES)
        ):
            raise ValueError(
                f"weights={self.weights}: expected auto, {', '.join(NAMED_WEIGHTS)}, last, a run's id, runs:/…, "
                f"models:/… or a file ({', '.join(WEIGHT_SUFFIXES)})"
            )
        if not self.stages:
            raise ValueError("stages=[]: expected at least one stage")
        return self


class EvaluateOptions(Section):
    """Evaluation."""

    metric: Metric = Field(default="mask_ap50", description="metric that selects the best checkpoint and the champion")
    confidence: Literal["auto"] | Share = Field(
        default=AUTO,
        description="minimum score; auto: the one with the highest mean of Dice and F1 on the validation split",
    )
    validation_images: Auto | Annotated[int, Field(ge=1)] | None = Field(
        default=AUTO,
        description="images on which each epoch is validated, drawn at random; the threshold is chosen on all of the "
        "split; null: all; auto: as many as take a sixth of the training's time",
    )
    validation_loss: bool = Field(
        default=True,
        description="also compute the losses of the validation images, of at most 32 batches, in each validation; the "
        "report draws them beside those of the training",
    )
    volumes: bool = Field(
        default=False,
        description="images are slices: also assemble volumes and measure Dice and HD95 in mm on them",
    )
    min_slices: Auto | Annotated[int, Field(ge=1)] = Field(
        default=AUTO,
        description="fewest neighboring slices of a volume in which an object must be found, or it is left out; auto: "
        "1 or 2, chosen with the threshold on the validation split where volumes is true, else 1",
    )
    resamples: int = Field(
        default=1000, ge=0, description="bootstrap resamples of patients for 95 % intervals; 0: none"
    )
    tta: Auto | bool = Field(
        default=AUTO,
        description="test-time augmentation: fuse the detections of an image and of its mirror images, those that "
        "augment.flip_horizontal and augment.flip_vertical allow, for the threshold, the results and the registered "
        "model; auto: where the augmentation flips",
    )
    robustness: bool = Field(
        default=False,
        description="also evaluate the reported split with other gray levels, resolutions, noise, blur, compression, "
        "letters and aspect, and report what each loses",
    )
    images_at_once: int = Field(default=4, ge=1, description="images per prediction step")
    overlays: int = Field(default=4, ge=0, description="overlays saved of each of the best, median and worst cases")

    @model_validator(mode="after")
    def _check(self) -> EvaluateOptions:
        if self.metric.startswith("volume_") and not self.volumes:
            raise ValueError(f"metric={self.metric}: expected one of images while volumes is false")
        return self


class TaskConfig(Section):
    """Complete configuration of a task, sufficient to repeat a run."""

    task: str = Field(min_length=1, description="name of the task and of its MLflow experiment")
    modality: str = Field(
        pattern="^[a-z][a-z0-9_]*$",
        description="ultrasound, mri, xray, ct, or another name; the model is registered as mrcnn-<modality>",
    )
    findings: Literal["none", "nodules", "lungs"] = Field(
        default="none", description="findings derived from the masks of an image; see experiments.findings"
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="seed of the split, the initial weights, the order and the augmentation",
    )
    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    train: TrainOptions = TrainOptions()
    augment: AugmentOptions = AugmentOptions()
    evaluate: EvaluateOptions = EvaluateOptions()
    baseline: BaselineOptions = BaselineOptions()

    @property
    def split_seed(self) -> int:
        """Return the random seed of the split."""
        return self.seed if self.data.split_seed is None else self.data.split_seed

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, given: Any) -> Any:
        """Replace an empty section by its defaults."""
        if not isinstance(given, dict):
            return given
        return {key: {} if value is None and key not in ("task", "modality", "seed") else value
                for key, value in given.items()}  # fmt: skip

    @model_validator(mode="after")
    def _check(self) -> TaskConfig:
        if self.evaluate.tta is True and not self.augment.flips:
            raise ValueError(
                "evaluate.tta=True: expected augment.flip_horizontal or augment.flip_vertical above 0, since mirror "
                "images are looked at as far as the training allows them"
            )
        if self.train.seeds and self.data.folds:
            raise ValueError(f"train.seeds={self.train.seeds}: expected null with data.folds={self.data.folds}")
        weights = self.train.weights
        pretrained = weights in ("imagenet", "coco")
        if pretrained and self.model.backbone == "small":
            raise ValueError(f"train.weights={weights}: expected none with model.backbone=small, which has none")
        if pretrained and self.model.norm == "group":
            raise ValueError(f"model.norm=group: expected frozen_batch or batch with train.weights={weights}")
        conventions = "matterport" if weights == "coco" else "paper" if weights == "imagenet" else "auto"
        if "auto" not in (conventions, self.model.conventions) and self.model.conventions != conventions:
            raise ValueError(
                f"model.conventions={self.model.conventions}: expected {conventions} with train.weights={weights}"
            )
        planned = {"channels": 3}
        if "matterport" in (conventions, self.model.conventions):
            planned |= {"conventions": "matterport", "norm": "batch", "normalisation": "imagenet"}
        try:
            # The classes and channels are read from the data; all other fields are validated before that.
            self.model.model_copy(update={"class_weights": None}).to_model_config(("any",), **planned)
        except ValidationError as error:
            raise ValueError(f"model.{error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
        return self

    @property
    def higher_is_better(self) -> bool:
        return self.evaluate.metric not in LOWER_IS_BETTER
