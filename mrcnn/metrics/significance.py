"""Compare two models on the same images: paired bootstrap and permutation test over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn.metrics.evaluator import Evaluator
from mrcnn.metrics.intervals import Statistic, percentile_interval, resample_patients
from mrcnn.metrics.measurement import named_means
from mrcnn.metrics.operating_point import operating_point


@dataclass(frozen=True)
class Difference:
    """Store a score of the second model minus that of the first, with its 95 % interval (NaN without resamples).

    `p` is two-sided, from the same resamples: twice the fraction of resamples on the smaller side of zero (those equal
    to zero count on both sides), with 1 added to both counts so that it is never 0 (Efron & Tibshirani 1993, section
    15.4; Davison & Hinkley 1997, section 4.2). NaN without resamples.
    """

    value: float
    low: float
    high: float
    p: float = float("nan")


def paired_differences(
    first: Evaluator, second: Evaluator, confidences: tuple[float, float], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Compute the difference of every image score that both evaluators define, with a paired bootstrap over patients.

    Each resample of patients is used for both models, which have the same images in the same order. The interval of a
    difference is usually narrower than the two intervals of the scores suggest, because difficult patients are
    difficult for both models.

    Raises:
        ValueError: the images differ.

    Example:
        Two patients with a square of 4 pixels. The first model misses the second one.

        >>> from mrcnn.data.sample import Sample
        >>> from mrcnn.detections import Detections
        >>> mask, ids = np.zeros((1, 6, 6), bool), np.array([1], np.int32)
        >>> mask[0, 1:3, 1:3] = True
        >>> found = Detections(np.array([[1, 1, 3, 3]], np.float32), np.array([0.9], np.float32), ids, mask)
        >>> first, second = Evaluator(("iso",)), Evaluator(("iso",))
        >>> for patient, detections in (("anna", found), ("ben", Detections.empty(6, 6))):
        ...     sample = Sample(np.zeros((6, 6, 1), np.uint8), mask, ids, patient, f"{patient}.png")
        ...     first.add(sample, detections)
        ...     second.add(sample, found)
        >>> difference = paired_differences(first, second, (0.5, 0.5), resamples=100)["recall"]
        >>> difference.value, difference.low, difference.high
        (0.5, 0.0, 1.0)
    """
    if first.sources != second.sources:
        raise ValueError(f"{len(first)} and {len(second)} images: expected the same ones in the same order")
    before, after = (each.statistic(confidence) for each, confidence in zip((first, second), confidences, strict=True))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        scores, others = before(weights), after(weights)
        return {name: others[name] - scores[name] for name in scores.keys() & others.keys()}

    values = statistic(np.ones((1, len(first))))
    drawn = resample_patients(statistic, first.patients, resamples, seed)
    return {
        name: _difference(float(value[0]), drawn.get(name, np.zeros(0)))
        for name, value in sorted(values.items())
        if not np.isnan(value[0])
    }


def _difference(value: float, drawn: np.ndarray) -> Difference:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Difference(value, np.nan, np.nan)
    low, high = percentile_interval(drawn)
    smaller = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return Difference(value, low, high, min(1.0, 2 * float(smaller + 1) / (len(drawn) + 1)))


EXACT = 12
"""Up to this number of patients the permutation test enumerates all exchanges."""
PERMUTATIONS = 10_000
_ROUNDING = 1e-12  # smaller differences count as equal
_CHUNK = 500


def permutation_p(statistic: Statistic, patient_ids: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Compute two-sided p-values for the difference of two models by a permutation test over patients.

    Under the null hypothesis the models of a patient are exchangeable (Good 2005, chapter 3). All images of a patient
    are exchanged together: all exchanges for at most `EXACT` patients, else `PERMUTATIONS` random ones, with 1 added to
    both counts (Davison & Hinkley 1997, section 4.2). Exchanges with an undefined value are excluded.

    Args:
        statistic: from weights (B, 2I) to values (B,) by name. The first I weights are those of the first model's
            images, the last I those of the second's, in the same order.
        patient_ids: patient of each of the I images.
        seed: seed of the random exchanges.

    Returns:
        p by name; values without a defined difference are absent.

    Example:
        The second model is better by 0.1 for each of three patients: 2 of 2³ exchanges differ as much.

        >>> dice = np.array([0.5, 0.6, 0.7, 0.6, 0.7, 0.8])
        >>> mean_dice = lambda weights: {"dice": weights @ dice / weights.sum(axis=1)}
        >>> permutation_p(mean_dice, ["anna", "ben", "carl"])
        {'dice': 0.25}
    """
    patients, patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    observed = _differences(statistic, np.zeros((1, len(patient)), bool))
    exact = len(patients) <= EXACT
    if exact:
        # The first patient is not exchanged: exchanging all patients only changes the sign of the difference.
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
    """Compute second model minus first, (B,) by name, with the models swapped where `exchanged` (B, I)."""
    own, others = (~exchanged).astype(np.float64), exchanged.astype(np.float64)
    first = statistic(np.concatenate([own, others], axis=1))
    second = statistic(np.concatenate([others, own], axis=1))
    return {name: second[name] - first[name] for name in first}


def operating_point_statistic(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Statistic:
    """Build the statistic of `permutation_p` from two models' `Evaluator.per_case` rows.

    It computes `precision`, `recall`, `f1`, `detection_rate`, `dice` and `dice/<class>` with the rules of `measurement`
    and `operating_point`.

    Example:
        >>> rows = [{"true_positives": 1, "false_positives": n, "misses": 0, "dice/iso": 0.9} for n in (1, 0)]
        >>> statistic = operating_point_statistic(rows[:1], rows[1:], ("iso",))
        >>> statistic(np.array([[1.0, 0.0], [0.0, 1.0]]))["precision"].tolist()
        [0.5, 1.0]
    """
    rows = [*first, *second]
    hits, false, misses = _table(rows, ["true_positives", "false_positives", "misses"]).T
    dice = _table(rows, [f"dice/{name}" for name in class_names])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return operating_point(hits, false, misses, weights) | named_means("dice", dice, class_names, weights)

    return statistic


def volume_statistic(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Statistic:
    """Build the statistic of `permutation_p` from two models' `Evaluator.per_volume` rows.

    It computes `volume_dice` and `volume_dice/<class>`.

    Example:
        >>> statistic = volume_statistic([{"dice/iso": 0.5}], [{"dice/iso": 0.75}], ("iso",))
        >>> statistic(np.array([[1.0, 0.0], [0.0, 1.0]]))["volume_dice"].tolist()
        [0.5, 0.75]
    """
    dice = _table([*first, *second], [f"dice/{name}" for name in class_names])
    return lambda weights: named_means("volume_dice", dice, class_names, weights)


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    return np.array([[np.nan if row[name] is None else row[name] for name in names] for row in rows], np.float64)
