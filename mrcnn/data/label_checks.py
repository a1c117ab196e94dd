"""Values of label images that nobody meant: edges blended by JPEG or resizing, and void borders."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

VOID = 255
_MOST_BESIDE_VOID = 128  # a map of more values than that may have an object of value 255
_RING_SHARE = 0.5  # of an outline
_MANY_BETWEEN, _SOME_BETWEEN, _SOME_ALONE, _FEW_ALONE = 0.2, 0.05, 0.03, 0.005  # of the pixels at edges
_LOW, _HIGH = 0.1, 0.9  # of the largest value
_SOLID_SHARE = 0.01


def values_above_zero(values: np.ndarray) -> list[int]:
    """The different values of a label image but 0, in order."""
    if values.dtype == bool:
        return [1] if values.any() else []
    if values.dtype == np.uint8:  # without sorting all pixels
        return (np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]) + 1).tolist()
    return [int(value) for value in np.unique(values) if value > 0]


def is_blended(values: np.ndarray) -> bool:
    """Whether edges were blended, as JPEG and resizing do.

    At edges there are then many pixels between a lower and a higher neighbor, or pixels of a value of their own; in a
    map of labels they are only where three regions meet. Or all values are near 0 or the largest, as after a fine JPEG.
    """
    values = _around(values)
    if len(values_above_zero(values)) < 2:
        return False
    lowest, highest = minimum_filter(values, 3), maximum_filter(values, 3)
    edge = (values > 0) & (lowest < highest)
    at_edges = np.count_nonzero(edge)
    between = np.count_nonzero(edge & (lowest < values) & (values < highest)) / at_edges
    alone = np.count_nonzero(edge & ~_has_twin(values)) / at_edges
    if between > _MANY_BETWEEN or (between > _SOME_BETWEEN and alone > _SOME_ALONE):
        return True
    top = values.max()
    near = (values < _LOW * top) | (values > _HIGH * top)
    return bool(alone > _FEW_ALONE and near.all() and not minimum_filter((values > 0) & (values < top / 2), 5).any())


def threshold_blended(values: np.ndarray) -> np.ndarray | None:
    """The object of a blended mask, (H, W) bool, from half of its value; None where it has areas of several values."""
    top = float(np.median(values[values > values.max() / 2]))
    found, middle = values > top / 2, (values > _LOW * top) & (values < _HIGH * top)
    solid = np.count_nonzero(minimum_filter(middle, 3))
    return None if solid > _SOLID_SHARE * np.count_nonzero(found) else found


def ringed_values(values: np.ndarray, classes: int) -> list[int]:
    """The classes that only line the outline of higher ones, as where a mask of classes was resized."""
    values, found = _around(values), []
    for value in range(1, classes):
        higher = values > value
        outline = _outline(higher)
        lining = (values == value) & maximum_filter(higher, 5) & maximum_filter(values < value, 5)
        if lining.any() and np.count_nonzero(outline & maximum_filter(lining, 3)) > _RING_SHARE * outline.sum():
            found.append(value)
    return found


def solid_values(values: np.ndarray, classes: int) -> set[int]:
    """The classes with a pixel all of whose 5×5 neighbors are of it."""
    return {value for value in range(1, classes + 1) if minimum_filter(values == value, 5).any()}


def has_void_border(values: np.ndarray) -> bool:
    """Whether 255 lies around objects of smaller values, as the void border of PASCAL VOC does."""
    objects, void = (values > 0) & (values < VOID), values == VOID
    if not void.any() or not objects.any() or values[objects].max() > _MOST_BESIDE_VOID:
        return False
    outline = _outline(objects)
    # What JPEG leaves beside an object of 255 reaches the background.
    within = outline & maximum_filter(void, 3) & ~maximum_filter(values == 0, 3)
    return bool(np.count_nonzero(within) > _RING_SHARE * outline.sum())


def _outline(region: np.ndarray) -> np.ndarray:
    return region & ~minimum_filter(region, 3)


def _has_twin(values: np.ndarray) -> np.ndarray:
    """Whether one of a pixel's eight neighbors has its value."""
    found = np.zeros(values.shape, bool)
    for one, other in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:, 1:], np.s_[:-1, :-1]),
        (np.s_[1:, :-1], np.s_[:-1, 1:]),
    ):
        same = values[one] == values[other]
        found[one] |= same
        found[other] |= same
    return found


def _around(values: np.ndarray) -> np.ndarray:
    """The part of `values` that is not 0, with three pixels around it."""
    rows, columns = (np.flatnonzero((values > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return values[:0, :0]
    return values[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]
