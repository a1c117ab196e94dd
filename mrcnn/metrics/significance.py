"""How two models differ on the same images, with intervals: a resample of patients is drawn once for both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn.metrics import intervals as bootstrap
from mrcnn.metrics.evaluator import Evaluator
from mrcnn.metrics.measurement import class_means, mean_over_classes
from mrcnn.metrics.operating_point import operating_point


@dataclass(frozen=True)
class Difference:
    """A score of the second model minus that of the first, with the ends of its 95 % interval (NaN without one).

    `p` is two-sided, of the same resamples: twice the share of those on the lesser side of zero, the ones that are
    zero on both, with 1 added to share and whole so that it is never 0 (Efron & Tibshirani 1993, section 15.4;
    Davison & Hinkley 1997, section 4.2). NaN without resamples.
    """

    value: float
    low: float
    high: float
    p: float = float("nan")


def paired_differences(
    first: Evaluator, second: Evaluator, confidences: tuple[float, float], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Every score that `Evaluator.intervals` resamples of images and that both have.

    The interval of a difference is mostly narrower than those of the two scores let expect, for hard patients are hard
    for both.

    Args:
        first, second: of the same images in the same order.
        confidences: working threshold of each.

    Raises:
        ValueError: they saw different images.
    """
    seen = [[row["source"] for row in each.per_case(confidence)]
            for each, confidence in zip((first, second), confidences, strict=True)]  # fmt: skip
    if seen[0] != seen[1]:
        raise ValueError(f"{len(seen[0])} and {len(seen[1])} images: expected the same ones in the same order")
    before, after = (each.statistic(confidence) for each, confidence in zip((first, second), confidences, strict=True))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores, others = before(weights), after(weights)
        return {name: others[name] - scores[name] for name in scores.keys() & others.keys()}

    values = statistic(np.ones((1, len(first))))
    drawn = bootstrap.resample_patients(statistic, first.patients, resamples, seed)
    return {
        name: _difference(float(value[0]), drawn.get(name, np.zeros(0)))
        for name, value in sorted(values.items())
        if not np.isnan(value[0])
    }


def _difference(value: float, drawn: np.ndarray) -> Difference:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Difference(value, np.nan, np.nan)
    tail = (100 - bootstrap.LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    lesser = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(value, float(low), float(high), min(1.0, 2 * float(lesser + 1) / (len(drawn) + 1)))


EXACT = 12
PERMUTATIONS = 10_000
# Differences that rounding alone tells apart count as equal.
_ROUNDING = 1e-12
_CHUNK = 500

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def permutation_p(statistic: Statistic, patient_ids: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Two-sided p-value of each value's difference between two models.

    Args:
        statistic: from weights (B, 2I) to values (B,) by name; the first I weights are of the first model's images, the
            last I of the second's, in the same order.
        patient_ids: of the I images.
    """
    patients, patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    observed = _differences(statistic, np.zeros((1, len(patient)), bool))
    exact = len(patients) <= EXACT
    if exact:
        # The first patient stays: exchanging everybody turns the sign alone, which two-sided is the same.
        numbers = np.arange(2 ** (len(patients) - 1))
        exchanged = (numbers[:, None] >> np.arange(len(patients) - 1)) & 1 == 1
        exchanged = np.pad(exchanged, ((0, 0), (1, 0)))
    else:
        exchanged = np.random.default_rng(seed).random((PERMUTATIONS, len(patients))) < 0.5
    chunks = [
        _differences(statistic, exchanged[start : start + _CHUNK][:, patient])
        for start in range(0, len(exchanged), _CHUNK)
    ]
    found = {}
    for name, seen in observed.items():
        drawn = np.concatenate([chunk[name] for chunk in chunks])
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(seen[0]) or not len(drawn):
            continue
        as_large = int((np.abs(drawn) >= abs(seen[0]) - _ROUNDING).sum())
        found[name] = as_large / len(drawn) if exact else (as_large + 1) / (len(drawn) + 1)
    return found


def _differences(statistic: Statistic, exchanged: np.ndarray) -> dict[str, np.ndarray]:
    """Second model minus first, (B,) by name, where `exchanged` (B, I) tells whose answers change places."""
    own, others = (~exchanged).astype(np.float64), exchanged.astype(np.float64)
    first = statistic(np.concatenate([own, others], axis=1))
    second = statistic(np.concatenate([others, own], axis=1))
    return {name: second[name] - first[name] for name in first}


def operating_point_statistic(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Statistic:
    """Of the rows of two models' `Evaluator.per_case`: `precision`, `recall`, `f1`, `detection_rate`, `dice` and
    `dice/<class>`, with the policies of `measurement` and `operating_point`."""
    rows = [*first, *second]
    counts = [np.array([row[name] for row in rows]) for name in ("true_positives", "false_positives", "misses")]
    dice = _table(rows, [f"dice/{name}" for name in class_names])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return operating_point(*counts, weights) | _means("dice", dice, class_names, weights)

    return statistic


def volume_statistic(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Statistic:
    """Of the rows of two models' `Evaluator.per_volume`: `volume_dice` and `volume_dice/<class>`."""
    dice = _table([*first, *second], [f"dice/{name}" for name in class_names])
    return lambda weights: _means("volume_dice", dice, class_names, weights)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    return np.array([[np.nan if row[name] is None else row[name] for name in names] for row in rows], np.float64)


def _means(name: str, values: np.ndarray, class_names: Sequence[str], weights: np.ndarray) -> dict[str, np.ndarray]:
    means = class_means(values, weights)
    of_classes = {f"{name}/{each}": means[:, position] for position, each in enumerate(class_names)}
    return {name: mean_over_classes(means)} | of_classes
