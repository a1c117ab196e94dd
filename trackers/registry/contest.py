"""Which of two versions of a registered model is better, where they can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlflow import MlflowClient


@dataclass(frozen=True)
class Score:
    """What a version reached, as its tags `metric`, `value` and `digest` hold it."""

    metric: str
    value: float
    digest: str


def wins(
    client: MlflowClient, name: str, holder: str | None, score: Score, higher_is_better: bool, useless: str | None
) -> tuple[bool, str]:
    """Whether `score` takes the alias from the version `holder`, and why."""
    if useless is not None:
        return False, f"{useless}: such a model is never champion"
    if math.isnan(score.value):
        return False, f"{score.metric} is not a number"
    if holder is None:
        return True, "there was no champion"
    tags = client.get_model_version(name, holder).tags
    try:
        held = Score(tags["metric"], float(tags["value"]), tags["digest"])
    except (KeyError, ValueError):
        return False, f"version {holder}, the champion, has no tags metric, value and digest to compare with"
    if held.digest != score.digest:
        return False, (
            f"not comparable: tested on data {score.digest[:12]}, the champion, version {holder}, on {held.digest[:12]}"
        )
    if held.metric != score.metric:
        return False, f"not comparable: judged by {score.metric}, the champion, version {holder}, by {held.metric}"
    better = score.value > held.value if higher_is_better else score.value < held.value
    words = "better than" if better else "not better than"
    return better, f"{score.metric} {score.value:.4g} is {words} {held.value:.4g} of version {holder}"
