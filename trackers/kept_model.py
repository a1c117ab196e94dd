"""A trained model that MLflow keeps, with the working point that was chosen for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from trackers.started_from import model_file, run_of

CONFIG = "config.yaml"


@dataclass(frozen=True)
class KeptModel:
    """A `.keras` file, the least score of an instance, and the configuration of the training; None where unknown."""

    file: Path
    confidence: float | None
    config: Mapping[str, Any] | None = None


def kept_model(spec: str, *, task: str, folder: Path) -> KeptModel:
    """What `spec` stands for, fetched into `folder`; see `trackers.started_from.model_file`.

    A packaged model brings its working point and configuration, a run has them among its metrics and artifacts, a file
    of its own has neither.

    Raises:
        InputError: the store has no such run or model.
    """
    run_id = run_of(spec, task=task, option="model")
    file = Path(model_file(spec if run_id is None else run_id, task=task, folder=folder, option="model"))
    settings = file.with_name("settings.json")
    if run_id is not None:
        return KeptModel(
            file, MlflowClient().get_run(run_id).data.metrics.get("confidence"), _config_of(run_id, folder)
        )
    if settings.is_file():
        kept = json.loads(settings.read_text(encoding="utf-8"))
        return KeptModel(file, kept["confidence"], kept.get("config"))
    return KeptModel(file, None)


def _config_of(run_id: str, folder: Path) -> dict[str, Any] | None:
    """What the run resolved its options to; None of a run that was cut short before that."""
    if CONFIG not in {each.path for each in MlflowClient().list_artifacts(run_id)}:
        return None
    path = download_artifacts(artifact_uri=f"runs:/{run_id}/{CONFIG}", dst_path=str(folder))
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
