"""A trained model that MLflow keeps, with the working point that was chosen for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from trackers.started_from import model_file, run_of


@dataclass(frozen=True)
class KeptModel:
    """A `.keras` file and the least score of an instance; None where nobody chose one."""

    file: Path
    confidence: float | None


def kept_model(spec: str, *, task: str, folder: Path) -> KeptModel:
    """What `spec` stands for, fetched into `folder`; see `trackers.started_from.model_file`.

    A packaged model brings its working point, a run has it among its metrics, a file of its own has none.

    Raises:
        InputError: the store has no such run or model.
    """
    run_id = run_of(spec, task=task, option="model")
    file = Path(model_file(spec if run_id is None else run_id, task=task, folder=folder, option="model"))
    settings = file.with_name("settings.json")
    if run_id is not None:
        return KeptModel(file, MlflowClient().get_run(run_id).data.metrics.get("confidence"))
    if settings.is_file():
        return KeptModel(file, json.loads(settings.read_text(encoding="utf-8"))["confidence"])
    return KeptModel(file, None)
