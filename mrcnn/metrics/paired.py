"""How two models differ on the same images, with intervals: a resample of patients is drawn once for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.metrics import bootstrap
from mrcnn.metrics.evaluator import Evaluator


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
    drawn = bootstrap.resampled(statistic, first.patients, resamples, seed)
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
