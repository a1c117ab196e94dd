"""95 % intervals by resampling patients.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13) with the patient as the unit, since images of one patient
resemble each other. A resample is a weight for each image: how often its patient was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LEVEL = 95.0
# Resamples worked on at once: weights × detections of a large test set stay within some tens of megabytes.
_CHUNK = 50


def bootstrap_intervals(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]], patient_ids: Sequence[str], resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile interval of every value that `statistic` gives.

    Resamples in which a value is undefined (NaN) are left out of its interval. A value that is never defined has none,
    and with fewer than two patients nothing has, since resampling one patient shows no spread.

    Args:
        statistic: from weights (B, I) float64 to values (B,) by name.
        patient_ids: of the I images.
    """
    values = resample_patients(statistic, patient_ids, resamples, seed)
    defined = {name: row[~np.isnan(row)] for name, row in values.items()}
    tail = (100 - LEVEL) / 2
    return {name: tuple(np.percentile(row, [tail, 100 - tail]).tolist()) for name, row in defined.items() if len(row)}


def resample_patients(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]], patient_ids: Sequence[str], resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Every value of `statistic` in each resample, (resamples,) by name; none with fewer than two patients.

    The same patients are drawn for the same `patient_ids` and `seed`.
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
