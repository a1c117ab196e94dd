"""Open a trained model for prediction, with its threshold, classes and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.digest import file_digest, files_digest
from mrcnn.data.io.volume_files import Plane
from mrcnn.data.io.volumes import ZSCORE, Scaling
from mrcnn.data.sample import read_with_context
from mrcnn.data.transforms.normalization import match_channels
from mrcnn.detections import Detections
from mrcnn.errors import InputError

if TYPE_CHECKING:
    from trackers.packaging.tracked_model import TrackedModel

Find = Callable[[Sequence[np.ndarray]], list[Detections]]
ALONE = (
    "the model was trained on slices with their neighbors; an image alone is its own neighbor: expected volumes, "
    "series or folders of numbered slices"
)
"""Warning of predictions of a model with context for images without neighbors."""


@dataclass(frozen=True)
class Detector:
    """A model of any kind and its properties.

    Attributes:
        find: images (H, W, C) of any size → `Detections` of each, before the confidence threshold.
        class_names: names of the class ids 1, 2, ….
        channels: number of input channels, with context those of a slice; grayscale images fit any number.
        context_slices: neighboring slices on each side that the network sees as channels, too.
        min_slices: fewest neighboring slices of a volume in which an object must be found.
        confidence: default confidence threshold, the operating point.
        findings: one of `experiments.findings.FINDINGS`.
        volumes: True if the model was trained on slices of volumes, each scaled as a whole.
        scaling: how these volumes were scaled.
        plane: plane of these slices.
        modalities: names of the channels of these volumes, or None if they are not recorded.
        label_codes: codes for label maps, or None.
        polarity: mean image of the training radiographs, see `mrcnn.data.film_polarity`, or None.
        digest: identifies the model files.
        batch_size: images in one batch.
        weights: number of parameters.
        task: of the training.
        data_name: of the training data.
        fingerprint: `Fingerprint.as_dict` of the training data; empty if it is not recorded.
        phantoms: the kind of phantoms that the model was trained on, see `mrcnn.phantoms`; None for other images.
    """

    find: Find
    class_names: tuple[str, ...]
    channels: int
    confidence: float
    findings: str = "none"
    volumes: bool = False
    scaling: Scaling = ZSCORE
    plane: Plane = "axial"
    modalities: tuple[str, ...] | None = None
    label_codes: str | None = None
    polarity: tuple[float, ...] | None = None
    digest: str = ""
    batch_size: int = 4
    weights: int = 0
    task: str = ""
    data_name: str = ""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    phantoms: str | None = None
    context_slices: int = 0
    min_slices: int = 1

    def with_own_neighbors(self, image: np.ndarray) -> np.ndarray:
        """Return what `find` takes for an image (H, W, C) alone: with context, the image is its own neighbors."""
        if not self.context_slices:
            return image
        return read_with_context(lambda _: match_channels(image, self.channels), 0, 1, self.context_slices)


def open_detector(spec: str, *, task: str, folder: Path, tile: int | None = None) -> Detector:
    """Open the model `spec`, see `trackers.packaging.tracked_model`; `tile` replaces its own tile.

    Raises:
        InputError: the model does not exist.
    """
    from trackers.packaging.tracked_model import load_tracked_model

    return make_detector(load_tracked_model(spec, task=task, folder=folder), tile)


def make_detector(tracked: TrackedModel, tile: int | None = None) -> Detector:
    """Open a model that was downloaded before; `tile` replaces its own tile.

    Raises:
        InputError: the model does not detect instances.
    """
    digest = file_digest(tracked.files[0]) if len(tracked.files) == 1 else files_digest(tracked.files)
    model = tracked.predictor(tile)
    record, config = tracked.config or {}, model.config
    data: Mapping[str, Any] = record.get("data", {})
    # Models of 0.1.0 have a section `brats` of the reader of this name.
    volumes = data.get("volumes") or data.get("brats") or {}
    flat = volumes.get("scaling") == "none"
    size = Detector.batch_size
    return Detector(
        find=lambda images: model.detect(images, batch_size=size),
        class_names=config.class_names,
        channels=config.channels // (2 * config.context_slices + 1),
        context_slices=config.context_slices,
        min_slices=_min_slices(record),
        confidence=config.score_threshold if tracked.confidence is None else tracked.confidence,
        findings=record.get("findings", "none"),
        # Old models have no record: normalization `none` means that the reader normalized the volumes.
        volumes=data["reader"] in ("volumes", "brats") and not flat
        if "reader" in data
        else config.normalisation == "none",
        scaling=_scaling(volumes),
        plane=volumes.get("plane", "axial") if volumes.get("plane") != "auto" else "axial",
        modalities=tuple(volumes["modalities"]) if volumes.get("modalities") else None,
        label_codes=volumes.get("label_codes"),
        polarity=tracked.polarity,
        digest=digest,
        weights=model.count_params(),
        task=record.get("task", ""),
        data_name=_data_name(data),
        fingerprint=tracked.fingerprint,
        phantoms=data.get("phantoms") if data and not data.get("dataset") else None,
    )


def _min_slices(record: Mapping[str, Any]) -> int:
    """Return the chosen `evaluate.min_slices`; 1 for models of images and of earlier versions."""
    evaluate = record.get("evaluate", {})
    chosen = evaluate.get("min_slices", 1) if evaluate.get("volumes") else 1
    return 1 if chosen == "auto" else chosen


def _data_name(data: Mapping[str, Any]) -> str:
    """Return the name of the folder of the data, which need not exist here, or `thyroid phantoms`."""
    if not data.get("dataset"):
        return f"{data['phantoms']} phantoms" if data.get("phantoms") else ""
    path = PurePath(data["dataset"])
    return path.parent.name if path.suffix else path.name


def _scaling(volumes: Mapping[str, Any]) -> Scaling:
    if volumes.get("window"):
        center, width = volumes["window"]
        return Scaling("window", (center, width))
    return Scaling("percentiles") if volumes.get("scaling") == "percentiles" else ZSCORE


def detect_or_error(
    detector: Detector, images: Sequence[np.ndarray], confidence: float
) -> list[Detections | InputError]:
    """Return the detections of each image with at least `confidence`, or the error for an image that does not fit."""
    try:
        return [found.above(confidence) for found in detector.find(images)]
    except InputError as error:
        if len(images) == 1:
            return [error]
        return [each for image in images for each in detect_or_error(detector, [image], confidence)]
