"""How long each model takes an image, measured here and now, the models in turns so that all meet the same load."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.prediction.detector import Find

IMAGES = 6
ROUNDS = 3


def seconds_per_image(finders: Mapping[str, Find], images: Sequence[np.ndarray]) -> dict[str, float]:
    """Median of single calls, one image a call, by the names of `finders`.

    Every model sees every image once before, so that nothing is compiled on the clock. Each round begins with another
    model.
    """
    order = list(finders)
    for name in order:
        for image in images:
            finders[name]([image])
    times: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(ROUNDS):
        for image in images:
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                started = time.perf_counter()
                finders[name]([image])
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items() if values}
