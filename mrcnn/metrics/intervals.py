"""Compute 95 % bootstrap intervals by resampling patients.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13). The unit is the patient, because images of one patient are
correlated. A resample is a weight per image: how often its patient was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

# Resamples per call of the statistic: limits weights × detections of a large test set to some tens of megabytes.
_CHUNK = 50

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Weights (B, I) float64 of I images → value (B,) by name, NaN where undefined."""


def bootstrap_intervals(
    statistic: Statistic, patient_ids: Sequence[str], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Compute the 95 % percentile interval of every value of `statistic`.

    Resamples in which a value is undefined (NaN) are excluded from its interval. A value that is undefined in all
    resamples has no interval. With fewer than two patients the result is empty.

    Args:
        statistic: from weights (B, I) float64 to values (B,) by name.
        patient_ids: patient of each of the I images.
        resamples: number of bootstrap resamples.
        seed: seed of the random generator.

    Returns:
        (lower, upper) bound by name.

    Example:
        >>> dice = np.array([0.9, 0.7, 0.8])
        >>> mean_dice = lambda weights: {"dice": weights @ dice / weights.sum(axis=1)}
        >>> low, high = bootstrap_intervals(mean_dice, ["anna", "ben", "carl"], resamples=1000, seed=0)["dice"]
        >>> round(low, 3), round(high, 3)
        (0.7, 0.9)
    """
    values = resample_patients(statistic, patient_ids, resamples, seed)
    defined = {name: row[~np.isnan(row)] for name, row in values.items()}
    return {name: percentile_interval(row) for name, row in defined.items() if len(row)}


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Compute the 2.5th and the 97.5th percentile of `values` (R,), linearly interpolated.

    Example:
        >>> percentile_interval(np.arange(101.0))
        (2.5, 97.5)
    """
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def interval_bounds(intervals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Rename intervals to the scores `<name>_lo` and `<name>_hi`.

    Example:
        >>> interval_bounds({"dice": (0.7, 0.9)})
        {'dice_lo': 0.7, 'dice_hi': 0.9}
    """
    low = {f"{name}_lo": pair[0] for name, pair in intervals.items()}
    return low | {f"{name}_hi": pair[1] for name, pair in intervals.items()}


def resample_patients(
    statistic: Statistic, patient_ids: Sequence[str], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Compute every value of `statistic` in each bootstrap resample of patients.

    The same `patient_ids` and `seed` always draw the same patients, so two models can be compared resample by resample.

    Returns:
        (resamples,) float64 by name; empty with fewer than two patients.

    Example:
        >>> count_images = lambda weights: {"images": weights.sum(axis=1)}
        >>> draws = resample_patients(count_images, ["anna", "anna", "ben"], resamples=20, seed=0)
        >>> sorted(set(draws["images"].tolist()))  # both anna: 4 images, one each: 3, both ben: 2
        [2.0, 3.0, 4.0]
    """
    patients, patient = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    if len(patients) < 2 or resamples < 1:
        return {}
    rng = np.random.default_rng(seed)
    chunks = []
    for start in range(0, resamples, _CHUNK):
        drawn = rng.multinomial(
            len(patients), np.full(len(patients), 1 / len(patients)), min(_CHUNK, resamples - start)
        )
        chunks.append(statistic(drawn[:, patient].astype(np.float64)))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
