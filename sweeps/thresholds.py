"""Search the confidence and NMS thresholds of a trained model on cached detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from mrcnn.metrics.case import Case
from mrcnn.metrics.measurement import class_means, mean_over_classes
from sweeps.candidate_cache import CandidatePool

CONFIDENCE = (0.05, 0.95, 0.01)
"""Minimum, maximum, step."""
NMS_IOU = (0.1, 0.9, 0.05)


@dataclass(frozen=True)
class ClassThresholds:
    """Thresholds for each class.

    Attributes:
        confidence, nms_iou: (K,) one for each class.
        value: mean of Dice and F1 on the images of the search.
    """

    confidence: tuple[float, ...]
    nms_iou: tuple[float, ...]
    value: float


class ThresholdSearch:
    """Score threshold sets on cached detections.

    The score is the mean of Dice and F1, as for the confidence threshold of a training (`Evaluator.best_confidence`):
    Dice alone is insensitive to small false positives beside a large instance, F1 alone to inaccurate outlines.

    Args:
        cases: of the validation images, from `cache_candidates`.
        most: maximum number of detections per image.
    """

    def __init__(self, cases: Sequence[Case], class_count: int, most: int) -> None:
        self._most, self._count = most, class_count
        self._cases = cases
        self._pools = [[CandidatePool(case, k, CONFIDENCE[0]) for k in range(1, class_count + 1)] for case in cases]
        self._instances = sum(len(case.truth) for case in cases)

    def value(self, confidence: Sequence[float], nms_iou: Sequence[float]) -> float:
        """Compute the mean of Dice and F1 with thresholds (K,); 0 if either is undefined."""
        dice = np.full((len(self._cases), self._count), np.nan)
        shown = hits = 0
        for position, pools in enumerate(self._pools):
            outcomes = [pool.kept(*pair) for pool, *pair in zip(pools, nms_iou, confidence, strict=True)]
            if sum(count for _, count in outcomes) > self._most:
                outcomes = self._fewer(pools, outcomes)
            for k, (pool, outcome) in enumerate(zip(pools, outcomes, strict=True)):
                found = pool.shown(outcome)
                dice[position, k] = found.dice
                hits += found.hits
                shown += found.counted
        counted = shown + self._instances
        of_dice = mean_over_classes(class_means(dice, np.ones((1, len(dice)))))[0] if len(dice) else np.nan
        return float((2 * hits / counted + of_dice) / 2) if counted and not np.isnan(of_dice) else 0.0

    def _fewer(self, pools: Sequence[CandidatePool], outcomes: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Limit the outcomes to the best `most` detections of the image; places are in the order of scores."""
        last = np.sort(np.concatenate([pool.chosen(outcome) for pool, outcome in zip(pools, outcomes, strict=True)]))
        limit = last[self._most - 1]
        return [
            (between, int((pool.chosen((between, count)) <= limit).sum()))
            for pool, (between, count) in zip(pools, outcomes, strict=True)
        ]

    def best(
        self, sets: int, *, per_class: bool, start: tuple[float, float], seed: int = 0
    ) -> ClassThresholds:  # fmt: skip
        """Search the best of `sets` threshold sets: `start` (confidence, NMS IoU) and those that TPE proposes.

        Many sets select the same detections; among equally good ones the result is the one nearest to their mean, which
        is farthest from a drop of the score.
        """
        names = [f"/{k}" for k in range(self._count)] if per_class else [""]

        def spread(params: dict[str, float], what: str) -> list[float]:
            found = [params[f"{what}{name}"] for name in names]
            return found if per_class else found * self._count

        def objective(trial: optuna.Trial) -> float:
            for name in names:
                trial.suggest_float(f"confidence{name}", *CONFIDENCE[:2], step=CONFIDENCE[2])
                trial.suggest_float(f"nms_iou{name}", *NMS_IOU[:2], step=NMS_IOU[2])
            return self.value(spread(trial.params, "confidence"), spread(trial.params, "nms_iou"))

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        on_grid = [_on_grid(value, limits) for value, limits in zip(start, (CONFIDENCE, NMS_IOU), strict=True)]
        study.enqueue_trial({f"{what}{name}": value for name in names
                             for what, value in zip(("confidence", "nms_iou"), on_grid, strict=True)})  # fmt: skip
        study.optimize(objective, n_trials=sets)
        tried = [
            (float(trial.value), trial.params) for trial in study.get_trials(deepcopy=False) if trial.value is not None
        ]
        value = max(each for each, _ in tried)
        keys = list(tried[0][1])
        best = np.array([[params[key] for key in keys] for each, params in tried if each >= value - 1e-9])
        middle = dict(zip(keys, best[np.square(best - best.mean(0)).sum(1).argmin()].tolist(), strict=True))
        return ClassThresholds(
            tuple(round(each, 2) for each in spread(middle, "confidence")),
            tuple(round(each, 2) for each in spread(middle, "nms_iou")),
            value,
        )


def _on_grid(value: float, limits: tuple[float, float, float]) -> float:
    low, high, step = limits
    return round(low + step * round((min(max(value, low), high) - low) / step), 6)
