"""What finds instances: a function of images, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.digest import file_digest, files_digest
from mrcnn.detections import Detections
from mrcnn.errors import InputError

if TYPE_CHECKING:
    from trackers.packaging.tracked_model import TrackedModel

Find = Callable[[Sequence[np.ndarray]], list[Detections]]


@dataclass(frozen=True)
class Detector:
    """A predictor of any kind; everything after it sees this alone.

    Attributes:
        find: images (H, W, C), any sizes → `Detections` of each, before the working threshold.
        class_names: of class ids 1, 2, ….
        channels: that it takes; grey images fit any.
        confidence: its working point, the least score of an instance.
        findings: what is read from the masks, one of `experiments.findings.FINDINGS`.
        volumes: whether it was trained on slices of NIfTI volumes, normalised over the brain of each.
        modalities: the channels' names then, or None where nobody kept them.
        label_codes: how its label maps are to be written, or None.
        polarity: the mean picture of the films that it was trained on, see `mrcnn.data.film_polarity`, or None.
        digest: that differs for another predictor.
        batch_size: images that it computes at once.
        weights: numbers that it learned.
    """

    find: Find
    class_names: tuple[str, ...]
    channels: int
    confidence: float
    findings: str = "none"
    volumes: bool = False
    modalities: tuple[str, ...] | None = None
    label_codes: str | None = None
    polarity: tuple[float, ...] | None = None
    digest: str = ""
    batch_size: int = 4
    weights: int = 0


def open_detector(spec: str, *, task: str, folder: Path) -> Detector:
    """The model that `spec` stands for, see `trackers.packaging.tracked_model`, with the threshold and findings that
    it brings.

    Raises:
        InputError: there is no such model.
    """
    from trackers.packaging.tracked_model import load_tracked_model

    return detector_of(load_tracked_model(spec, task=task, folder=folder))


def detector_of(kept: TrackedModel) -> Detector:
    """The same, of a model that was fetched already.

    Raises:
        InputError: it is no model that finds instances.
    """
    # Of an ensemble the digest of all its files.
    digest = file_digest(kept.files[0]) if len(kept.files) == 1 else files_digest(kept.files)
    model = kept.predictor()
    known, config = kept.config or {}, model.config
    data: Mapping[str, Any] = known.get("data", {})
    brats = data.get("brats") or {}
    size = Detector.batch_size
    return Detector(
        find=lambda images: model.detect(images, batch_size=size),
        class_names=config.class_names,
        channels=config.channels,
        confidence=config.score_threshold if kept.confidence is None else kept.confidence,
        findings=known.get("findings", "none"),
        # Without a record the normalisation tells: `none` means that the reader has done it.
        volumes=data["reader"] == "brats" if "reader" in data else config.normalisation == "none",
        modalities=tuple(brats["modalities"]) if brats.get("modalities") else None,
        label_codes=brats.get("label_codes"),
        polarity=kept.polarity,
        digest=digest,
        weights=sum(network.count_params() for network in getattr(model, "networks", (model,))),
    )


def found_in(detector: Detector, images: Sequence[np.ndarray], confidence: float) -> list[Detections | InputError]:
    """What is found in each image at `confidence`; for an image that the model cannot take, the error that says why."""
    try:
        return [found.above(confidence) for found in detector.find(images)]
    except InputError as error:
        if len(images) == 1:
            return [error]
        return [each for image in images for each in found_in(detector, [image], confidence)]
