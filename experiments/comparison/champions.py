"""Select the champions by validation scores, and average the test scores of the models.

- An alias moves to the version with the best validation score, among those that were validated by the same metric on
  the same images as its holder. Only a strictly better version takes it. Test scores decide nothing: the best test
  score of several models is too high.
- The means over the test sets are reported: of a task the mean of its own metric (`evaluate.metric`); of the modality
  the mean Dice of any class, every instance and detection counting as of one class, for classes differ from task to
  task. A model that cannot take the images of a test set has 0 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.comparison.candidates import Candidate
from experiments.comparison.joint_test_set import TestSet
from experiments.comparison.measurements import Measurement
from experiments.config.schema import LOWER_IS_BETTER
from trackers.registry.registry import CHAMPION, Move, task_alias

HEAD_TO_HEAD = ("dice", "mask_ap50")
"""Mean metrics over all test sets, of any class."""


@dataclass(frozen=True)
class AliasDecision:
    """A decision about an alias of a registered model.

    Attributes:
        name: name of the registered model.
        alias: `champion` or `champion-<task>`.
        move: None if the alias does not change.
        reason: one line.
    """

    name: str
    alias: str
    move: Move | None
    reason: str


def head_to_head(
    candidates: Sequence[Candidate], sets: Sequence[TestSet], measured: Mapping[tuple[str, int], Measurement]
) -> dict[str, dict[str, float]]:
    """Compute by label the mean of each `HEAD_TO_HEAD` metric over all test sets; NaN if one is undefined."""
    found = {}
    for candidate in candidates:
        each = [measured.get((candidate.label, position)) for position in range(len(sets))]
        summaries = [None if one is None else one.any_class.summary(one.confidence) for one in each]
        found[candidate.label] = {
            name: _mean([0.0 if one is None else one.get(name, math.nan) for one in summaries]) for name in HEAD_TO_HEAD
        }
    return found


def task_scores(
    candidates: Sequence[Candidate], sets: Sequence[TestSet], measured: Mapping[tuple[str, int], Measurement]
) -> dict[str, tuple[str, dict[str, float]]]:
    """Compute by task its metric and, by label, the mean of it over the task's test sets for models of the task."""
    found = {}
    for task in dict.fromkeys(each.task for each in sets):
        positions = [position for position, each in enumerate(sets) if each.task == task]
        metric = sets[positions[0]].config.evaluate.metric
        values = {}
        for candidate in candidates:
            found_here = [measured.get((candidate.label, position)) for position in positions]
            scores = [
                each.by_class.summary(each.confidence).get(metric, math.nan)
                for each in found_here
                if each is not None and each.by_class is not None
            ]
            if candidate.config.task == task and len(scores) == len(positions):
                values[candidate.label] = _mean(scores)
        found[task] = (metric, values)
    return found


def decide_aliases(candidates: Sequence[Candidate], aliases: Mapping[str, Mapping[str, str]]) -> list[AliasDecision]:
    """Decide on each alias of each registered model; `aliases` are those before: registered model → alias → version."""
    found = []
    for name in dict.fromkeys(each.name for each in candidates if each.name is not None):
        contenders = [each for each in candidates if each.name == name]
        found.append(_decide(name, CHAMPION, contenders, aliases[name]))
        for task in dict.fromkeys(each.config.task for each in contenders):
            of_task = [each for each in contenders if each.config.task == task]
            found.append(_decide(name, task_alias(task), of_task, aliases[name]))
    return found


def _decide(name: str, alias: str, contenders: Sequence[Candidate], aliases: Mapping[str, str]) -> AliasDecision:
    def stays(reason: str) -> AliasDecision:
        return AliasDecision(name, alias, None, reason)

    holder = aliases.get(alias)
    scores = {
        str(each.version): score for each in contenders if (score := each.validation) and not math.isnan(score.value)
    }
    if holder is None:
        # Without a holder there is nothing that scores on other data could be compared with.
        kinds = {(score.metric, score.digest) for score in scores.values()}
        if len(kinds) > 1:
            return stays("is not assigned: no version has it, and the versions were validated on different data")
        kind = next(iter(kinds), None)
    elif holder not in scores:
        return stays(f"stays with version {holder}, whose validation score is unknown")
    else:
        kind = (scores[holder].metric, scores[holder].digest)
    if kind is None:
        return stays("is not assigned: no version has a validation score")
    comparable = {version: score.value for version, score in scores.items() if (score.metric, score.digest) == kind}
    metric, sign = kind[0], -1 if kind[0] in LOWER_IS_BETTER else 1
    best = max(comparable, key=lambda version: sign * comparable[version])
    what = f"validation {metric} {comparable[best]:.4g}"
    if sign > 0 and comparable[best] <= 0:
        return stays(f"is not assigned: {what}, and such a model is never champion")
    others = len(contenders) - len(comparable)
    apart = f"; versions that are not comparable: {others}" if others else ""
    if holder is not None and sign * comparable[best] <= sign * comparable[holder]:
        return stays(
            f"stays with version {holder}: validation {metric} {comparable[holder]:.4g}, none is better{apart}"
        )
    against = "no version had it" if holder is None else f"{comparable[holder]:.4g} of version {holder}"
    reason = f"{what}, {against}{apart}"
    return AliasDecision(name, alias, Move(alias, holder, best, reason), f"to version {best}: {reason}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
