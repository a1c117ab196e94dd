"""Load a trained model from MLflow with its confidence threshold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from mrcnn.config import PRETRAINED
from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml
from trackers.checkpoints.initial_weights import model_files, run_of

if TYPE_CHECKING:
    from mrcnn.inference.ensemble import Predictor

VIEWS = "test_time_augmentation"
"""Tag of a run whose threshold was chosen with test-time augmentation: `flips` and `mirrored_ids` as JSON."""
CONFIG = "config.yaml"
FINGERPRINT = "fingerprint.json"


@dataclass(frozen=True)
class TrackedModel:
    """One `.keras` file, or those of an ensemble, with their settings.

    Attributes:
        asked: the requested model, for messages.
        files: the networks.
        confidence: lowest score of an instance, or None.
        config: configuration of the training; None if unknown.
        fingerprint: `Fingerprint.as_dict` of the training data; empty if it is not recorded.
        flips, mirrored_ids: test-time augmentation with which the confidence was chosen; see
            `mrcnn.inference.ensemble.Ensemble`.
    """

    asked: str
    files: tuple[Path, ...]
    confidence: float | None
    config: Mapping[str, Any] | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    flips: tuple[str, ...] = ()
    mirrored_ids: tuple[int, ...] | None = None

    @property
    def polarity(self) -> tuple[float, ...] | None:
        """The mean radiograph of the training images, see `mrcnn.data.film_polarity`; None where it is not recorded."""
        return tuple(self.fingerprint["polarity"]) if self.fingerprint.get("polarity") else None

    @property
    def file(self) -> Path:
        """The only file.

        Raises:
            InputError: it is an ensemble.
        """
        if len(self.files) != 1:
            raise InputError(
                f"{self.asked}: is an ensemble of {len(self.files)} networks; expected a single one, such as one of "
                "its folds by its run id"
            )
        return self.files[0]

    def predictor(self, tile: int | None = None) -> Predictor:
        """Load the model; its `detect` works as `MaskRCNN.detect`, with fusion and test-time augmentation as evaluated.

        `tile` replaces the side of the tiles in which the model detects.

        Raises:
            InputError: a file is not a readable model.
        """
        from mrcnn.inference.ensemble import make_predictor
        from mrcnn.models import SEGMENTERS, load

        networks: list[Any] = [load(file, SEGMENTERS) for file in self.files]
        if tile is not None:
            for network in networks:
                network.config = network.config.model_copy(update={"tile": tile})
        return make_predictor(networks, self.flips, self.mirrored_ids)


def load_tracked_model(spec: str, *, task: str, folder: Path) -> TrackedModel:
    """Download the model `spec` into `folder`; see `trackers.checkpoints.initial_weights.model_file`.

    A packaged model contains threshold and configuration, a run has them in its metrics and artifacts, a file has
    neither. The run of a cross-validation means its ensemble.

    Raises:
        InputError: the store has no such run or model, or it was trained on phantoms to start other trainings.
    """
    asked = f"model={spec}"
    run_id = run_of(spec, task=task, option="model")
    found = model_files(spec if run_id is None else run_id, task=task, folder=folder, option="model")
    files = tuple(map(Path, found))
    tag = MlflowClient().get_run(run_id).data.tags.get("model") if run_id is not None else None
    if PRETRAINED in (tag, files[0].stem):
        raise InputError(f"{asked}: initial weights from phantoms; expected a model that `mrcnn train` made")
    settings = files[0].with_name("settings.json")
    if settings.is_file():
        content = json.loads(settings.read_text(encoding="utf-8"))
        # Packages of version 0.1 hold the polarity alone.
        fingerprint = content.get("fingerprint") or {"polarity": content.get("polarity")}
        return TrackedModel(asked, files, content["confidence"], content.get("config"), fingerprint, **_views(content))
    if run_id is not None:
        data = MlflowClient().get_run(run_id).data
        views = _views(json.loads(data.tags.get(VIEWS, "{}")))
        config, found = _config_of(run_id, folder), _artifact(run_id, FINGERPRINT, folder)
        return TrackedModel(asked, files, data.metrics.get("confidence"), config, json.loads(found or "{}"), **views)
    return TrackedModel(asked, files, None)


def _views(content: dict[str, Any]) -> dict[str, Any]:
    ids = content.get("mirrored_ids")
    return {"flips": tuple(content.get("flips", ())), "mirrored_ids": None if ids is None else tuple(ids)}


def _config_of(run_id: str, folder: Path) -> dict[str, Any] | None:
    """Return the resolved configuration of a run; None if it was interrupted before."""
    text = _artifact(run_id, CONFIG, folder)
    try:
        return None if text is None else read_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"{CONFIG} of run {run_id}: not readable as YAML") from error


def _artifact(run_id: str, name: str, folder: Path) -> str | None:
    """Return the text of an artifact, or None."""
    if name not in {each.path for each in MlflowClient().list_artifacts(run_id)}:
        return None
    path = download_artifacts(artifact_uri=f"runs:/{run_id}/{name}", dst_path=str(folder))
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} of run {run_id}: not readable as text") from error
