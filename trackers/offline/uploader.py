"""Log one record of a run in the store; repeating it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from trackers.offline.server import one_attempt, require_run
from trackers.runs.names import new_params

KIND = "kind"
PARAMS, METRICS, TAGS, INPUT, ARTIFACT, END = "params", "metrics", "tags", "input", "artifact", "end"


def metrics_record(points: list[Metric], *, once_a_step: bool) -> dict[str, Any]:
    """Build a record of metrics, with numbers as text because JSON has no NaN.

    Args:
        points: values with step and time.
        once_a_step: ignore a metric that has a value at the step already.
    """
    rows = [[point.key, repr(point.value), point.timestamp, point.step] for point in points]
    return {KIND: METRICS, "points": rows, "once_a_step": once_a_step}


def input_record(name: str, digest: str, source_type: str, source: str, profile: str, context: str) -> dict[str, Any]:
    """Build a record of a dataset input."""
    dataset = {"name": name, "digest": digest, "source_type": source_type, "source": source, "profile": profile}
    return {KIND: INPUT, "dataset": dataset, "context": context}


class Uploader:
    """Log records in a run of a store.

    Args:
        again: a record may have been logged already, so it is looked up before, and the id of the run is checked after
            it. The histories of metrics read for this are cached, because there is no other writer.
    """

    def __init__(self, client: MlflowClient, run_id: str, *, again: bool) -> None:
        self._client, self._run_id, self._again = client, run_id, again
        self._points: dict[str, set[tuple[int, int]]] = {}

    def deliver(self, record: Mapping[str, Any], path: Path | None = None) -> None:
        """Log a record. Raises the errors of the client, and `WrongServer`."""
        large = record[KIND] == ARTIFACT
        if large and self._again:
            # A small request detects a hanging server sooner.
            require_run(self._client, self._run_id)
        with one_attempt(large=large):
            getattr(self, f"_{record[KIND]}")(record, path)
        if self._again:
            require_run(self._client, self._run_id)

    def _params(self, record: Mapping[str, Any], _: Path | None) -> None:
        new = new_params(record["values"], self._client.get_run(self._run_id).data.params)
        self._client.log_batch(self._run_id, params=[Param(name, value) for name, value in new.items()])

    def _metrics(self, record: Mapping[str, Any], _: Path | None) -> None:
        points = [Metric(name, float(value), when, step) for name, value, when, step in record["points"]]
        if record["once_a_step"]:
            points = [each for each in points if each.step not in {step for _, step in self._logged(each.key)}]
        if self._again:
            points = [each for each in points if (each.timestamp, each.step) not in self._logged(each.key)]
        self._client.log_batch(self._run_id, metrics=points)
        for each in points:
            if each.key in self._points:
                self._points[each.key].add((each.timestamp, each.step))

    def _logged(self, name: str) -> set[tuple[int, int]]:
        """Return (timestamp, step) of each point of a metric in the store."""
        if name not in self._points:
            found = self._client.get_metric_history(self._run_id, name)
            self._points[name] = {(point.timestamp, point.step) for point in found}
        return self._points[name]

    def _tags(self, record: Mapping[str, Any], _: Path | None) -> None:
        self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in record["values"].items()])

    def _input(self, record: Mapping[str, Any], _: Path | None) -> None:
        tag = InputTag("mlflow.data.context", record["context"])
        self._client.log_inputs(self._run_id, [DatasetInput(Dataset(**record["dataset"]), [tag])])

    def _artifact(self, record: Mapping[str, Any], path: Path | None) -> None:
        self._client.log_artifact(self._run_id, str(path), record["folder"])

    def _end(self, record: Mapping[str, Any], _: Path | None) -> None:
        self._client.set_terminated(self._run_id, record["status"], record["time"])
