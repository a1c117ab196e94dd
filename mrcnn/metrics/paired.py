"""How two models differ on the same images, with intervals: a resample of patients is drawn once for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.metrics import bootstrap
from mrcnn.metrics.evaluator import Evaluator


@dataclass(frozen=True)
class Difference:
    """A score of the second model minus that of the first, with the ends of its 95 % interval (NaN without one)."""

    value: float
    low: float
    high: float


def differences(
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
    ends = bootstrap.intervals(statistic, first.patients, resamples, seed)
    return {
        name: Difference(float(value[0]), *ends.get(name, (np.nan, np.nan)))
        for name, value in sorted(values.items())
        if not np.isnan(value[0])
    }
