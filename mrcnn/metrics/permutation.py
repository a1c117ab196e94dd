"""Whether two models differ on the same patients: a paired permutation test.

If the models were the same, it would not matter which of the two gave which answer. So the answers of both are
exchanged for whole patients, at random, and the p-value is the share of exchanges whose difference is at least as large
as the one seen (Fisher 1935, The Design of Experiments, section 21; Good 2005, Permutation, Parametric and Bootstrap
Tests, section 3.7). Up to `EXACT` patients all exchanges are gone through; beyond, a random sample, with 1 added to
both counts (Phipson & Smyth 2010, Stat Appl Genet Mol Biol 9:39).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.metrics.measurement import class_means, mean_over_classes
from mrcnn.metrics.working_point import working_point

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


def working_point_statistic(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Statistic:
    """Of the rows of two models' `Evaluator.per_case`: `precision`, `recall`, `f1`, `detection_rate`, `dice` and
    `dice/<class>`, with the policies of `measurement` and `working_point`."""
    rows = [*first, *second]
    counts = [np.array([row[name] for row in rows]) for name in ("true_positives", "false_positives", "misses")]
    dice = _table(rows, [f"dice/{name}" for name in class_names])

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        return working_point(*counts, weights) | _means("dice", dice, class_names, weights)

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
