"""What a run has recorded, read back from MLflow."""

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
LOW, HIGH = "_lo", "_hi"
CONTEXT = "mlflow.data.context"


@dataclass(frozen=True)
class RunRecord:
    """The numbers and words of a run.

    Attributes:
        metrics: the last value of each.
        data: for each split that was read, the name of its data set and the beginning of its digest.
        profile: the fingerprint of the data; empty where there is none.
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
        """The split that the results are of: what was measured and is neither for training nor, if avoidable, for
        validation, which every epoch looks at."""
        measured = [name for name in self.data if any(metric.startswith(f"{name}/") for metric in self.metrics)]
        return min(set(measured) - {TRAIN}, key=lambda name: (name == VAL, name != TEST, name), default=TEST)

    @property
    def data_name(self) -> str:
        """What a person calls the data."""
        name = next((name for name, _ in self.data.values()), "")
        return name.rpartition(" (")[0] or name

    @property
    def synthetic(self) -> bool:
        """Whether the data are phantoms: then the configuration names no dataset."""
        return self.params.get("data.dataset") == "null"

    @property
    def commit(self) -> str | None:
        """Of the code; None where it was not a checkout. Says so where tracked files differed from it."""
        commit = self.tags.get(COMMIT)
        return f"{commit} with changes" if commit and self.tags.get("git_dirty") == "true" else commit

    def scores(self) -> dict[str, float]:
        """The metrics of `split` without its name, their intervals left out."""
        prefix = f"{self.split}/"
        found = {name.removeprefix(prefix): value for name, value in self.metrics.items() if name.startswith(prefix)}
        return {name: value for name, value in found.items() if not _is_end(name, found)}

    def interval(self, name: str) -> tuple[float, float] | None:
        """The 95 % interval of a score."""
        ends = [self.metrics.get(f"{self.split}/{name}{end}") for end in (LOW, HIGH)]
        return None if None in ends else (ends[0], ends[1])


def _is_end(name: str, names: Mapping[str, float]) -> bool:
    return name.endswith((LOW, HIGH)) and name[: -len(LOW)] in names


def read_run(run_id: str) -> RunRecord:
    """Reads a run of the store. Raises MlflowException where there is none."""
    run = MlflowClient().get_run(run_id)
    data, profile = {}, {}
    for each in run.inputs.dataset_inputs:
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
    """(step, value) of a metric, each step once, in order."""
    points = {point.step: point.value for point in MlflowClient().get_metric_history(run_id, name)}
    return sorted(points.items())


def registered(run_id: str) -> list[str]:
    """The versions of registered models that the run made, such as `mrcnn-ultrasound version 3`, and why each has its
    alias."""
    versions = MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    return sorted(
        f"{each.name} version {each.version}" + (f" ({reason})" if (reason := each.tags.get("reason")) else "")
        for each in versions
    )


@contextmanager
def artifacts(run_id: str, *wanted: str) -> Iterator[Path]:
    """A folder with those of the `wanted` files and folders that the run has."""
    client = MlflowClient()
    present = {file.path for file in client.list_artifacts(run_id)}
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        for name in wanted:
            if name in present:
                download_artifacts(run_id=run_id, artifact_path=name, dst_path=folder)
        yield Path(folder)
