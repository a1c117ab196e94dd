"""Stack slices to volumes, and measure Dice and HD95 in three dimensions.

Rules for a class in a volume, which consists of the evaluated slices; other slices count as empty in truth and
prediction:

- Dice compares the unions of the class's masks in all slices. If truth and prediction are both empty, the volume is
  excluded from the mean of the class; if exactly one is empty, it counts as 0.
- HD95 is in millimeters, between surfaces in three dimensions. It is excluded if either is empty or if the voxel size
  is unknown; `skipped` counts the cases with exactly one empty.

The value of a class is the mean over its volumes, the overall value the mean over classes, as for images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError
from mrcnn.metrics.case import Case
from mrcnn.metrics.matching import Overlap, overlap
from mrcnn.metrics.surface import hausdorff95, surface
from mrcnn.rle import Rle, decode, merge


@dataclass(frozen=True)
class VolumeMeasurement:
    """Store the measurements of V volumes and K classes; NaN where excluded.

    Attributes:
        names, patient_ids: (V,) of each volume.
        slices: (V,) number of evaluated slices.
        dice, hd95_mm: (V, K) float64.
        skipped: number of (volume, class) pairs of which exactly one of truth and prediction is empty.
    """

    names: tuple[str, ...]
    patient_ids: tuple[str, ...]
    slices: tuple[int, ...]
    dice: np.ndarray
    hd95_mm: np.ndarray
    skipped: int


def group_slices(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Group slices by volume.

    Example: see `measure_volumes`.

    Raises:
        InputError: an image is not a slice, a slice occurs twice, or slices of one volume differ in size.
    """
    volumes: dict[str, dict[int, Case]] = {}
    for case in cases:
        place = _position_of(case)
        slices = volumes.setdefault(place.volume, {})
        first = next(iter(slices.values()), case)
        if place.index in slices:
            raise InputError(f"{case.source}: slice {place.index} of {place.volume} occurs twice")
        if (case.height, case.width) != (first.height, first.width):
            raise InputError(
                f"{case.source}: is {case.width}×{case.height} pixels; expected {first.width}×{first.height}, like the "
                f"other slices of {place.volume}"
            )
        slices[place.index] = case
    return {name: list(slices.values()) for name, slices in volumes.items()}


def _position_of(case: Case) -> SlicePosition:
    """Return the position of a slice in its volume; raise `InputError` for other images."""
    if case.place is None:
        raise InputError(f"{case.source}: is not a slice of a volume, which volume scores need")
    return case.place


def measure_volumes(cases: Sequence[Case], confidence: float, class_count: int) -> VolumeMeasurement:
    """Measure every volume with the detections of at least `confidence`. Raises `InputError` like `group_slices`.

    Example:
        A voxel in each of two slices 4 mm apart, of which the prediction has the first: Dice 2·1 / (2 + 1).

        >>> from mrcnn.data.sample import Sample, SlicePosition
        >>> from mrcnn.detections import Detections
        >>> from mrcnn.metrics.case import make_case
        >>> mask, ids = np.zeros((1, 5, 5), bool), np.array([1], np.int32)
        >>> mask[0, 2, 2] = True
        >>> found = Detections(np.array([[2, 2, 3, 3]], np.float32), np.array([0.9], np.float32), ids, mask)
        >>> slices = [Sample(np.zeros((5, 5, 1), np.uint8), mask, ids, "anna", f"{n}.png", (1.0, 1.0),
        ...                  place=SlicePosition("scan", n, 4.0)) for n in (0, 1)]
        >>> cases = [make_case(slices[0], found, 1), make_case(slices[1], Detections.empty(5, 5), 1)]
        >>> measured = measure_volumes(cases, 0.5, 1)
        >>> measured.dice.round(3).tolist(), measured.hd95_mm.round(1).tolist()
        ([[0.667]], [[3.8]])
        >>> {name: len(slices) for name, slices in group_slices(cases).items()}
        {'scan': 2}
        >>> stack_masks(cases, [case.truth for case in cases], (3, 5, 5)).sum(axis=(1, 2)).tolist()
        [1, 1, 0]
    """
    volumes = group_slices(cases)
    dice, hd95 = np.full((2, len(volumes), class_count), np.nan)
    skipped = 0
    for row, slices in enumerate(volumes.values()):
        for class_id in range(1, class_count + 1):
            regions = [case.regions(case.count_above(confidence), class_id) for case in slices]
            truth, predicted = ([pair[which] for pair in regions] for which in (0, 1))
            both = _sum(overlap(*pair) for pair in zip(truth, predicted, strict=True))
            dice[row, class_id - 1] = both.dice
            skipped += (both.truth == 0) != (both.predicted == 0)
            if (spacing := _spacing(slices[0])) and both.truth and both.predicted:
                surfaces = _surface_points(slices, truth), _surface_points(slices, predicted)
                hd95[row, class_id - 1] = hausdorff95(*surfaces, spacing)
    return VolumeMeasurement(
        names=tuple(volumes),
        patient_ids=tuple(slices[0].patient_id for slices in volumes.values()),
        slices=tuple(map(len, volumes.values())),
        dice=dice,
        hd95_mm=hd95,
        skipped=skipped,
    )


def stack_masks(
    slices: Sequence[Case], masks: Sequence[Sequence[Rle]], shape: tuple[int, int, int], first: int = 0
) -> np.ndarray:
    """Stack the union of each slice's masks to a volume (slices, rows, columns) bool; other slices are empty.

    `first` is the index of the first slice of the result. Example: see `measure_volumes`.
    """
    stack = np.zeros(shape, bool)
    for case, rles in zip(slices, masks, strict=True):
        if rles:
            stack[_position_of(case).index - first] = decode(merge(rles))
    return stack


def _surface_points(slices: Sequence[Case], masks: Sequence[Sequence[Rle]]) -> np.ndarray:
    """Compute the surface voxels (P, 3): slice, row and column."""
    numbers = [_position_of(case).index for case in slices]
    first, last = min(numbers), max(numbers)
    stack = stack_masks(slices, masks, (last - first + 1, slices[0].height, slices[0].width), first)
    (part,) = find_objects(stack.view(np.uint8))
    corner = [part[0].start + first, part[1].start, part[2].start]
    return np.argwhere(surface(stack[part])).astype(np.float64) + corner


def _spacing(case: Case) -> tuple[float, float, float] | None:
    step = _position_of(case).step_mm
    return None if case.spacing_mm is None or step is None else (step, *case.spacing_mm)


def _sum(overlaps: Iterable[Overlap]) -> Overlap:
    counts = [(each.truth, each.predicted, each.intersection) for each in overlaps]
    return Overlap(*map(sum, zip(*counts, strict=True)))
