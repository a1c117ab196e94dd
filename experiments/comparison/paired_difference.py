"""Differences between two models on a test set, with intervals and p-values over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.comparison.joint_test_set import LEAST_PATIENTS
from experiments.comparison.measurements import Measurement
from mrcnn.metrics import Evaluator
from mrcnn.metrics import intervals as bootstrap
from mrcnn.metrics.significance import operating_point_statistic, paired_differences, permutation_p, volume_statistic

RESAMPLES = 1000
SEED = 0
PERMUTATION, BOOTSTRAP = "permutation", "bootstrap"


@dataclass(frozen=True)
class PairedDifference:
    """A score of the second model minus that of the first; with fewer than `LEAST_PATIENTS` patients only `value`.

    Attributes:
        value: the difference.
        low, high: 95 % interval.
        p: two-sided p-value.
        test: test of `p`, `permutation` or `bootstrap`.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    test: str | None = None


def scores(evaluator: Evaluator, confidence: float) -> dict[str, float]:
    """Compute the scores of one model and, with enough patients, their intervals with `_lo` and `_hi`."""
    found = evaluator.summary(confidence)
    if has_enough_patients(evaluator.patients):
        found |= evaluator.intervals(confidence, RESAMPLES, SEED)
    return found


def has_enough_patients(patients: Sequence[str]) -> bool:
    """Return whether there are enough patients for a test."""
    return len(set(patients)) >= LEAST_PATIENTS


def paired_difference(first: Measurement, second: Measurement, *, volumes: bool = False) -> dict[str, PairedDifference]:
    """Compute the difference of each score that both models have, with `volumes` also the Dice of volumes.

    By class if both models have the classes of the test set, else of any class.

    Dice, precision, recall, F1, detection rate and Dice of volumes are tested by permutation. AP and FROC rank the
    detections of all patients by confidence, which two models do not share, so patients cannot be exchanged between
    them; their p comes from the paired bootstrap.
    """
    one, other = shared_evaluators(first, second)
    names = one.class_names
    confidences = (first.confidence, second.confidence)
    patients = one.patients
    resamples = RESAMPLES if has_enough_patients(patients) else 0
    found = {
        name: PairedDifference(each.value, _number(each.low), _number(each.high), _number(each.p), BOOTSTRAP)
        for name, each in paired_differences(one, other, confidences, resamples=resamples, seed=SEED).items()
    }
    if resamples:
        rows = one.per_case(first.confidence), other.per_case(second.confidence)
        p_values = permutation_p(operating_point_statistic(*rows, names), patients, SEED)
        for name, p in p_values.items():
            if name in found:
                found[name] = PairedDifference(found[name].value, found[name].low, found[name].high, p, PERMUTATION)
    else:
        found = {name: PairedDifference(each.value) for name, each in found.items()}
    if volumes and one is first.by_class:
        found |= _of_volumes(one, other, confidences)
    return found


def _of_volumes(one: Evaluator, other: Evaluator, confidences: tuple[float, float]) -> dict[str, PairedDifference]:
    rows = one.per_volume(confidences[0]), other.per_volume(confidences[1])
    patients = [row["patient_id"] for row in rows[0]]
    statistic = volume_statistic(*rows, one.class_names)

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        zeros = np.zeros_like(weights)
        first = statistic(np.concatenate([weights, zeros], axis=1))
        second = statistic(np.concatenate([zeros, weights], axis=1))
        return {name: second[name] - first[name] for name in first}

    values = difference(np.ones((1, len(patients))))
    too_few = not has_enough_patients(patients)
    ends = {} if too_few else bootstrap.bootstrap_intervals(difference, patients, RESAMPLES, SEED)
    p_values = {} if too_few else permutation_p(statistic, patients, SEED)
    found = {}
    for name, value in values.items():
        if not np.isnan(value[0]):
            low, high = ends.get(name, (None, None))
            test = PERMUTATION if name in p_values else None
            found[name] = PairedDifference(float(value[0]), low, high, p_values.get(name), test)
    return found


def shared_evaluators(first: Measurement, second: Measurement) -> tuple[Evaluator, Evaluator]:
    """Return the evaluators by class if both models have one, else those of any class."""
    if first.by_class is None or second.by_class is None:
        return first.any_class, second.any_class
    return first.by_class, second.by_class


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
