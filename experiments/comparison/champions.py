"""Select the champions: of each task on its own test sets, of the modality on all test sets.

- Of a task: the mean over the task's test sets of the task's own metric (`evaluate.metric`).
- Of the modality: the mean over all test sets of the Dice of any class, every instance and detection counting as of one
  class, for classes differ from task to task. A model that cannot take the images of a test set has 0 there.

Versions of one registered model contend with one another; only a strictly better one takes an alias.
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
"""Mean metrics over all test sets, of any class; the first one decides."""


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


def decide_aliases(
    candidates: Sequence[Candidate],
    sets: Sequence[TestSet],
    measured: Mapping[tuple[str, int], Measurement],
    aliases: Mapping[str, Mapping[str, str]],
) -> list[AliasDecision]:
    """Decide on each alias of each registered model.

    Args:
        candidates: compared models.
        sets: test sets.
        measured: measurement by label of the model and position of the test set.
        aliases: registered model → alias → version, at the start of the comparison.
    """
    found = []
    of_modality = {label: each[HEAD_TO_HEAD[0]] for label, each in head_to_head(candidates, sets, measured).items()}
    for name in dict.fromkeys(each.name for each in candidates if each.name is not None):
        contenders = [each for each in candidates if each.name == name]
        what = f"mean Dice of any class over {len(sets)} test set{'s' if len(sets) > 1 else ''}"
        found.append(_decide(name, CHAMPION, contenders, of_modality, what, aliases[name], 0.0))
        for task, (metric, values) in task_scores(candidates, sets, measured).items():
            of_task = [each for each in contenders if each.config.task == task]
            if of_task:
                lower = metric in LOWER_IS_BETTER
                signed = {label: -value for label, value in values.items()} if lower else values
                what = f"{metric} on the test images of {task}"
                above = -math.inf if lower else 0.0
                found.append(_decide(name, task_alias(task), of_task, signed, what, aliases[name], above))
    return found


def _decide(
    name: str, alias: str, contenders: Sequence[Candidate], values: Mapping[str, float], what: str,
    aliases: Mapping[str, str], above: float,
) -> AliasDecision:  # fmt: skip
    """Args: above: no model whose value is not above this gets the alias."""
    holder = aliases.get(alias)
    scored = [each for each in contenders if not math.isnan(values.get(each.label, math.nan))]
    if not scored:
        return AliasDecision(name, alias, None, f"no model has a {what}")
    best = max(scored, key=lambda each: values[each.label])
    champion = next((each for each in scored if each.version == holder), None)
    version = best.version
    if version is None:
        raise ValueError(f"{best.title} is not registered")
    if holder is not None and champion is None:
        return AliasDecision(name, alias, None, f"stays with version {holder}, which could not be measured here")
    if champion is not None and values[best.label] <= values[champion.label]:
        return AliasDecision(
            name,
            alias,
            None,
            f"stays with version {holder}: {what} {abs(values[champion.label]):.4g}, none is better",
        )
    if values[best.label] <= above:
        reason = f"is not assigned: {what} is {above:g}, and such a model is never champion"
        return AliasDecision(name, alias, None, reason)
    against = "no version had it" if champion is None else f"{abs(values[champion.label]):.4g} of version {holder}"
    reason = f"{what} {abs(values[best.label]):.4g}, {against}"
    return AliasDecision(name, alias, Move(alias, holder, version, reason), f"to version {version}: {reason}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
