"""Which confidence and which NMS overlap a trained model works best at, found on kept detections in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna

from mrcnn.metrics.case import Case
from mrcnn.metrics.measurement import class_means, mean_over_classes
from sweeps.candidate_cache import CandidatePool

CONFIDENCE = (0.05, 0.95, 0.01)
"""Least, largest, step."""
NMS_IOU = (0.1, 0.9, 0.05)


@dataclass(frozen=True)
class ClassThresholds:
    """A working point for each class.

    Attributes:
        confidence, nms_iou: (K,) one for each class.
        value: mean of Dice and F1 on the images that they were found on.
    """

    confidence: tuple[float, ...]
    nms_iou: tuple[float, ...]
    value: float


class ThresholdSearch:
    """Scores of threshold sets on kept detections.

    The score is the mean of Dice and F1, as for the working threshold of a training (`Evaluator.best_confidence`): Dice
    alone hardly minds small false instances beside a large true one, F1 alone hardly minds poor outlines.

    Args:
        cases: of the validation images, from `kept_cases`.
        most: detections that the model gives for an image at most.
    """

    def __init__(self, cases: Sequence[Case], class_count: int, most: int) -> None:
        self._most, self._count = most, class_count
        self._cases = cases
        self._pools = [[CandidatePool(case, k, CONFIDENCE[0]) for k in range(1, class_count + 1)] for case in cases]
        self._instances = sum(len(case.truth) for case in cases)

    def value(self, confidence: Sequence[float], nms_iou: Sequence[float]) -> float:
        """Mean of Dice and F1 with thresholds (K,); 0 where either is undefined, for lack of truth and detections."""
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
        """The outcomes with the best `most` detections of the image alone; places are in the order of scores."""
        last = np.sort(np.concatenate([pool.chosen(outcome) for pool, outcome in zip(pools, outcomes, strict=True)]))
        limit = last[self._most - 1]
        return [
            (between, int((pool.chosen((between, count)) <= limit).sum()))
            for pool, (between, count) in zip(pools, outcomes, strict=True)
        ]

    def best(
        self, sets: int, *, per_class: bool, start: tuple[float, float], seed: int = 0
    ) -> ClassThresholds:  # fmt: skip
        """The best of `sets` threshold sets: `start` (confidence, NMS IoU) and those that TPE proposes.

        Many sets show the same detections; of equally good ones that nearest to their mean is taken, far from where the
        score falls off.

        Args:
            per_class: own thresholds for each class, instead of the same for all.
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
        tried = [(trial.value, trial.params) for trial in study.get_trials(deepcopy=False)]
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
