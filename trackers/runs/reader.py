"""Read the records of a run from MLflow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from trackers.runs.environment import COMMIT

TRAIN, VAL, TEST = "train", "val", "test"
EXTERNAL = "external"
"""The images of `mrcnn evaluate`."""
OUT_OF_FOLD = "out_of_fold"
"""All folds of a cross-validation, each predicted by the model that was trained without it."""
LOW, HIGH = "_lo", "_hi"
CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class RunRecord:
    """The metrics, parameters, tags and data of a run.

    Attributes:
        metrics: the last value of each.
        data: split → name of its dataset and prefix of its digest.
        profile: the fingerprint of the data, or empty.
        started: milliseconds since 1970.
        ended: the same; None while the run goes on.
    """

    run_id: str
    experiment_id: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    data: Mapping[str, tuple[str, str]]
    profile: Mapping[str, Any]
    started: int
    ended: int | None = None

    @property
    def split(self) -> str:
        """The evaluated split: not that of the training, and that of the validation only if there is no other."""
        measured = [name for name in self.data if any(metric.startswith(f"{name}/") for metric in self.metrics)]
        return min(set(measured) - {TRAIN}, key=lambda name: (name == VAL, name != TEST, name), default=TEST)

    @property
    def data_name(self) -> str:
        """The name of the data."""
        name = next((name for name, _ in self.data.values()), "")
        return name.rpartition(" (")[0] or name

    @property
    def synthetic(self) -> bool:
        """Whether the data are phantoms, for which the configuration has no dataset."""
        return self.params.get("data.dataset") == "null"

    @property
    def commit(self) -> str | None:
        """The commit of the code, `… with changes` if tracked files differed from it; None without a checkout."""
        commit = self.tags.get(COMMIT)
        return f"{commit} with changes" if commit and self.tags.get("git_dirty") == "true" else commit

    def digest(self, split: str) -> str:
        """Return the recorded prefix of the digest of a split; empty if it is unknown."""
        return self.data.get(split, ("", ""))[1]

    def scores(self) -> dict[str, float]:
        """Return the metrics of `split` without prefix and without intervals."""
        prefix = f"{self.split}/"
        found = {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}
        return {name: value for name, value in found.items() if not _is_end(name, found)}

    def interval(self, name: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a score, or None."""
        low, high = (self.metrics.get(f"{self.split}/{name}{end}") for end in (LOW, HIGH))
        return None if low is None or high is None else (low, high)


def _is_end(name: str, names: Mapping[str, float]) -> bool:
    return name.endswith((LOW, HIGH)) and name[: -len(LOW)] in names


def read_run(run_id: str) -> RunRecord:
    """Read a run of the store. Raises MlflowException if it does not exist."""
    run = MlflowClient().get_run(run_id)
    data, profile = {}, {}
    for each in run.inputs.dataset_inputs if run.inputs else ():
        split = next((tag.value for tag in each.tags if tag.key == CONTEXT), "")
        data[split] = (each.dataset.name, each.dataset.digest)
        profile = json.loads(each.dataset.profile or "{}")
    return RunRecord(
        run_id,
        run.info.experiment_id,
        run.data.metrics,
        run.data.params,
        run.data.tags,
        data,
        profile,
        run.info.start_time,
        run.info.end_time,
    )


def history(run_id: str, name: str) -> list[tuple[int, float]]:
    """Return (step, value) of a metric, each step once, in order."""
    points = {point.step: point.value for point in MlflowClient().get_metric_history(run_id, name)}
    return sorted(points.items())


def registered(run_id: str) -> list[str]:
    """Return the registered versions of the run, such as `mrcnn-ultrasound version 3`, with reasons of aliases."""
    versions = MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    return sorted(
        f"{each.name} version {each.version}" + (f" ({reason})" if (reason := each.tags.get("reason")) else "")
        for each in versions
    )


def artifact_text(run_id: str, name: str) -> str | None:
    """Return the text of an artifact; None if the run has none of this name."""
    with artifacts(run_id, name) as folder:
        return (folder / name).read_text(encoding="utf-8") if (folder / name).is_file() else None


@contextmanager
def artifacts(run_id: str, *wanted: str) -> Iterator[Path]:
    """Download the `wanted` files and folders that the run has; yield their folder."""
    client = MlflowClient()
    present = {file.path for file in client.list_artifacts(run_id)}
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        for name in wanted:
            if name in present:
                download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        yield Path(folder)
