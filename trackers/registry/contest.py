"""Compare two versions of a registered model by their validation scores.

A champion that is chosen by its test score publishes the best test score of many models, which is too high. So the
score of a version is the metric on the validation split at the best epoch, or over all held-out folds of a
cross-validation. Scores are compared if metric and validation data are the same. Test scores decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from trackers.runs.reader import OUT_OF_FOLD, VAL, RunRecord, history, read_run

CHOSEN_ON, VALIDATION = "chosen_on", "validation"
"""Tag of a version whose tags `metric`, `value` and `digest` are of validation data. Version 0.1 stored test scores."""


@dataclass(frozen=True)
class Score:
    """A validation score.

    Attributes:
        metric: name of the metric.
        value: NaN if it was never defined.
        digest: of the validation images and annotations, as MLflow stores it; empty if it is unknown.
    """

    metric: str
    value: float
    digest: str


def validation_score(run: RunRecord, metric: str) -> Score:
    """Return what the model of a run reached on validation data.

    Of a cross-validation it is the score over all held-out folds, of a sweep or of several seeds that of the best
    training, otherwise that of the best epoch.
    """
    if OUT_OF_FOLD in run.data:
        return Score(metric, run.metrics.get(f"{OUT_OF_FOLD}/{metric}", math.nan), run.digest(OUT_OF_FOLD))
    value = run.metrics.get(f"best/{metric}")
    if value is None:
        trained = read_run(run.tags["best_run"]) if "best_run" in run.tags else run
        best_epoch = int(trained.metrics.get("best_epoch", -1))
        value = dict(history(trained.run_id, f"{VAL}/{metric}")).get(best_epoch, math.nan)
    return Score(metric, value, run.digest(VAL))


def score_of_version(version: ModelVersion, metric: str) -> Score | None:
    """Return the validation score of a version: from its tags, or by `metric` from its run if it is of version 0.1."""
    tags = version.tags
    try:
        if tags.get(CHOSEN_ON) == VALIDATION:
            return Score(tags["metric"], float(tags["value"]), tags["digest"])
        found = validation_score(read_run(tags.get("run") or version.run_id or ""), metric)
    except (KeyError, ValueError, MlflowException):
        return None
    return None if math.isnan(found.value) or not found.digest else found


def wins(
    client: MlflowClient, name: str, holder: str | None, score: Score, higher_is_better: bool, useless: str | None
) -> tuple[bool, str]:
    """Decide whether `score`, on validation data, takes the alias from the version `holder` (None: no holder), and why.

    `useless` is why the model never wins; None if it can.
    """
    if useless is not None:
        return False, f"{useless}: such a model is never champion"
    if math.isnan(score.value):
        return False, f"{score.metric} is not a number"
    if holder is None:
        return True, "there was no champion"
    held = score_of_version(client.get_model_version(name, holder), score.metric)
    if held is None:
        return False, f"not comparable: version {holder}, the champion, has no validation score"
    if held.metric != score.metric:
        return False, f"not comparable: chosen by {score.metric}, the champion, version {holder}, by {held.metric}"
    if held.digest != score.digest:
        return False, (
            f"not comparable: validated on data {score.digest[:12]}, the champion, version {holder}, on "
            f"{held.digest[:12]}"
        )
    better = score.value > held.value if higher_is_better else score.value < held.value
    words = "better than" if better else "not better than"
    return better, f"validation {score.metric} {score.value:.4g} is {words} {held.value:.4g} of version {holder}"
