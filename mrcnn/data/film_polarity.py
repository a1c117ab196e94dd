"""Whether films have the polarity of others, or are their negatives: black and white exchanged.

A chest film and its negative differ by the sign of their correlation with the mean picture of other chest films: of 322
films, compared with the mean of others, all are told right either way. Only films in like positions have such a mean,
so it is used where it proves itself on the films that made it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MODALITY = "xray"
"""The only one of which negatives are common."""
LEAST = 10
"""Films, with fewer of which nothing is said."""
_SIDE = 8  # of the mean picture: too coarse to show anybody
_RELIABLE = 0.99  # of the films that have to agree with the mean of the others
_ALIKE = 0.5  # median correlation of films in like positions; of the 322 chest films 0.79
_DOUBTFUL = 0.05  # correlations this close to 0 say nothing; the least of the 322 is 0.12


def mean_picture(thumbnails: np.ndarray) -> tuple[float, ...] | None:
    """The mean of films, from thumbnails (N, side, side); None where films do not agree with the mean of the others."""
    films = _unit(thumbnails)
    films = films[films.any(axis=1)]
    if len(films) < LEAST:
        return None
    total = films.sum(axis=0)
    if ((films @ total - 1) > 0).mean() < _RELIABLE:  # each with the sum of the others
        return None
    return tuple(round(float(value), 4) for value in total / max(np.linalg.norm(total), 1e-9))


def negatives(thumbnails: np.ndarray, picture: Sequence[float]) -> np.ndarray:
    """(N,) bool: which films have the other polarity than those of which `picture` is the mean."""
    return _unit(thumbnails) @ np.asarray(picture) < -_DOUBTFUL


def negatives_within(thumbnails: np.ndarray) -> np.ndarray:
    """Positions of the films of the rarer polarity; none where the films are too different to tell."""
    films = _unit(thumbnails)
    if len(films) < LEAST:
        return np.zeros(0, np.int64)
    # The axis along which films and negatives lie apart, whichever are more.
    correlation = films @ np.linalg.svd(films, full_matrices=False)[2][0]
    if np.median(np.abs(correlation)) < _ALIKE:
        return np.zeros(0, np.int64)
    sides = [np.flatnonzero(correlation * sign > _DOUBTFUL) for sign in (1, -1)]
    return min(sides, key=len)


def _unit(thumbnails: np.ndarray) -> np.ndarray:
    """(N, 64) of mean 0 and length 1; what is even is 0."""
    count, side = len(thumbnails), thumbnails.shape[1] // _SIDE
    means = thumbnails.reshape(count, _SIDE, side, _SIDE, side).mean(axis=(2, 4)).reshape(count, _SIDE**2)
    means -= means.mean(axis=1, keepdims=True)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
