"""Open the model to evaluate: its networks, its operating point, and what its training has seen."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient

from experiments.comparison.candidates import CLASSIFIER, find_version
from experiments.config.resolve import check, shareable
from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import check_data
from experiments.preparation.seen_images import SeenImages, data_location
from mrcnn.data.digest import files_digest
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.inference.ensemble import Predictor
from trackers.checkpoints.initial_weights import run_of
from trackers.packaging.tracked_model import TrackedModel, load_tracked_model
from trackers.registry.registry import RECALIBRATED_IN
from trackers.runs.reader import artifact_text

_log = logging.getLogger(__name__)

SPLITS = "splits.json"
CALIBRATION = "calibration"
"""Name in `SPLITS` of the images that chose the threshold of a recalibrated version."""


@dataclass(frozen=True)
class OpenedModel:
    """A trained model and its provenance.

    Attributes:
        title: name in messages and in the report, such as `mrcnn-xray version 3`.
        address: by which it can be opened again.
        tracked: files, operating point and configuration.
        digest: SHA-256 of the files.
        predictor: ready to detect.
        run_id: run of the training; None if it is unknown.
        name, version: in the registry; None for an unregistered model.
        calibration_run: run that chose the threshold of a recalibrated version.
    """

    title: str
    address: str
    tracked: TrackedModel
    digest: str
    predictor: Predictor
    run_id: str | None = None
    name: str | None = None
    version: str | None = None
    calibration_run: str | None = None

    @property
    def confidence(self) -> float:
        """The operating point: the recorded threshold, or the score threshold of the network."""
        recorded = self.tracked.confidence
        return self.predictor.config.score_threshold if recorded is None else recorded

    @property
    def config(self) -> TaskConfig | None:
        """Configuration of the training; None if it is unknown.

        Raises:
            InputError: it is not that of a training.
        """
        if not self.tracked.config:
            return None
        return check(self.tracked.config, f"{self.title}: its configuration")


def open_model(spec: str, *, task: str, folder: Path) -> OpenedModel:
    """Open the model `spec`; see `trackers.checkpoints.initial_weights.model_file`.

    Raises:
        InputError: it does not exist, or is a classifier.
    """
    client, run_id, name, number, calibration_run = MlflowClient(), None, None, None, None
    title = Path(spec).name
    if (version := find_version(client, spec)) is not None:
        if version.name.startswith(CLASSIFIER):
            raise InputError(f"{spec}: a classifier, which finds no instances; expected a detection model")
        name, number, run_id = version.name, str(version.version), version.tags.get("run") or version.run_id or None
        calibration_run = version.tags.get(RECALIBRATED_IN)
        title = f"{name} version {number}"
        # By number, because an alias can move meanwhile.
        spec = f"models:/{name}/{number}"
    elif (run_id := run_of(spec, task=task, option="model")) is not None:
        title = f"run {run_id[:8]}"
    tracked = load_tracked_model(spec, task=task, folder=folder)
    if run_id is not None and "whole" not in tracked.fingerprint:
        tracked = replace(tracked, fingerprint={**tracked.fingerprint, **_json_artifact(run_id, "fingerprint.json")})
    address = run_id if number is None and run_id is not None else spec
    digest, predictor = files_digest(tracked.files), tracked.predictor()
    return OpenedModel(title, address, tracked, digest, predictor, run_id, name, number, calibration_run)


def training_images(model: OpenedModel) -> tuple[list[SeenImages], list[str]]:
    """Collect the images that the training has seen, and a note for what cannot be known.

    The data set of the training is read again. If that is impossible, only the names of its patients are known, from
    the run.
    """
    config, notes, seen = model.config, [], []
    if model.calibration_run is not None:
        listed = _json_artifact(model.calibration_run, SPLITS).get(CALIBRATION, [])
        patients = frozenset(each["patient_id"] for each in listed)
        seen = [SeenImages(CALIBRATION, patients, frozenset(each["sha256"] for each in listed))]
    if config is None:
        return seen, [f"The training data of {model.title} are not recorded: no image could be excluded."]
    if config.train.starts_from_model:
        weights = shareable(config.train.weights)
        notes.append(f"The training started from {weights}; the images of that training are not excluded.")
    where = data_location(config.data)
    lists = {} if model.run_id is None else _json_artifact(model.run_id, SPLITS)
    patients = frozenset(each["patient_id"] for split, listed in lists.items() if split != "test" for each in listed)
    try:
        checked = check_data(config)
        checked.raise_if_wrong()
    except InputError as error:
        # Notes are part of reports, which are shared; the reason names folders and files.
        _log.warning("the training data cannot be read again: %s", str(error).splitlines()[0])
        known = "only the names of its patients could be compared" if patients else "no image could be excluded"
        return [*seen, SeenImages(where, patients)], [
            *notes,
            f"The training data cannot be read again, so {known}.",
        ]
    trained = SeenImages.of(checked, config.data)
    return [*seen, replace(trained, patients=trained.patients | patients)], notes


def _json_artifact(run_id: str, name: str) -> Mapping[str, Any]:
    """Load a JSON artifact of a run; empty if there is none."""
    return json.loads(artifact_text(run_id, name) or "{}")


class MappedPredictor:
    """A predictor with other classes.

    Args:
        class_names: the new classes.
        class_ids: for each class id of the model, from 0, the new class id.
    """

    def __init__(self, predictor: Predictor, class_names: Sequence[str], class_ids: np.ndarray) -> None:
        self._predictor, self._class_ids = predictor, class_ids
        self.config = predictor.config.model_copy(update={"class_names": tuple(class_names)})

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images; see `MaskRCNN.detect`."""
        found = self._predictor.detect(images, batch_size=batch_size)
        return [each.with_classes(self._class_ids[each.class_ids]) for each in found]

    def count_params(self) -> int:
        """Count the weights of all networks."""
        return self._predictor.count_params()
