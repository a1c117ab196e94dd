"""Slices put back into their volumes, and measured there.

Policies, for a class in a volume, whose slices are those that were evaluated; of a slice that was not, nothing is
known, and it counts as empty in truth and prediction:

- Dice is of the unions of the class's masks in all slices. With nothing of the class in truth and prediction, the
  volume is left out of the class's mean; with exactly one of them empty it counts as 0.
- HD95 is in millimetres, over the surfaces in three dimensions. It is left out where either is empty or where the size
  of a voxel is unknown; `skipped` counts where exactly one is empty.

A class's value is the mean over its volumes, the whole value the mean over classes, as for images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects

from mrcnn.errors import InputError
from mrcnn.metrics.case import Case, masks_of_class
from mrcnn.metrics.matching import Overlap, overlap
from mrcnn.metrics.rle import Rle
from mrcnn.metrics.surface import hausdorff95, surface


@dataclass(frozen=True)
class VolumeMeasurement:
    """Of V volumes and K classes; NaN where left out.

    Attributes:
        names, patient_ids, slices: (V,) of each volume, `slices` being those that were evaluated.
        dice, hd95_mm: (V, K) float64.
        skipped: (volume, class) pairs of which exactly truth or prediction is empty.
    """

    names: tuple[str, ...]
    patient_ids: tuple[str, ...]
    slices: tuple[int, ...]
    dice: np.ndarray
    hd95_mm: np.ndarray
    skipped: int


def by_volume(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The slices of each volume.

    Raises:
        InputError: an image that is no slice, a slice given twice, or slices of one volume that differ in size.
    """
    volumes: dict[str, dict[int, Case]] = {}
    for case in cases:
        if case.place is None:
            raise InputError(f"{case.source}: is no slice of a volume, which scores of volumes need")
        slices = volumes.setdefault(case.place.volume, {})
        first = next(iter(slices.values()), case)
        if case.place.index in slices:
            raise InputError(f"{case.source}: slice {case.place.index} of {case.place.volume} was given before")
        if (case.height, case.width) != (first.height, first.width):
            raise InputError(
                f"{case.source}: is {case.width}×{case.height} pixels; expected {first.width}×{first.height}, as the "
                f"other slices of {case.place.volume}"
            )
        slices[case.place.index] = case
    return {name: list(slices.values()) for name, slices in volumes.items()}


def measure_volumes(cases: Sequence[Case], confidence: float, class_count: int) -> VolumeMeasurement:
    """Put the slices together and measure every volume at `confidence`. Raises `InputError` as `by_volume`."""
    volumes = by_volume(cases)
    dice, hd95 = np.full((2, len(volumes), class_count), np.nan)
    skipped = 0
    for row, slices in enumerate(volumes.values()):
        for class_id in range(1, class_count + 1):
            regions = [case.regions(case.shown(confidence), class_id) for case in slices]
            truth, predicted = ([pair[which] for pair in regions] for which in (0, 1))
            both = _sum(overlap(*pair) for pair in zip(truth, predicted, strict=True))
            dice[row, class_id - 1] = both.dice
            skipped += (both.truth == 0) != (both.predicted == 0)
            if (spacing := _spacing(slices[0])) and both.truth and both.predicted:
                points = (_surface_points(slices, masks) for masks in (truth, predicted))
                hd95[row, class_id - 1] = hausdorff95(*points, spacing)
    return VolumeMeasurement(
        names=tuple(volumes),
        patient_ids=tuple(slices[0].patient_id for slices in volumes.values()),
        slices=tuple(map(len, volumes.values())),
        dice=dice,
        hd95_mm=hd95,
        skipped=skipped,
    )


def predicted_masks(case: Case, confidence: float, class_id: int) -> list[Rle]:
    shown = case.shown(confidence)
    return masks_of_class(case.predicted[:shown], case.classes[:shown], class_id)


def stack_of(
    slices: Sequence[Case], masks: Sequence[Sequence[Rle]], shape: tuple[int, int, int], first: int = 0
) -> np.ndarray:
    """(slices, rows, columns) bool: of each slice the union of its masks, the rest empty.

    Args:
        slices: where they belong.
        masks: of each slice.
        shape: of the result.
        first: number of the slice that it begins with.
    """
    stack = np.zeros(shape, bool)
    for case, rles in zip(slices, masks, strict=True):
        if rles:
            stack[case.place.index - first] = coco_mask.decode(coco_mask.merge(list(rles)))
    return stack


def _surface_points(slices: Sequence[Case], masks: Sequence[Sequence[Rle]]) -> np.ndarray:
    """(P, 3) slice, row and column of each voxel at the surface."""
    numbers = [case.place.index for case in slices]
    first, last = min(numbers), max(numbers)
    stack = stack_of(slices, masks, (last - first + 1, slices[0].height, slices[0].width), first)
    (part,) = find_objects(stack.view(np.uint8))
    corner = [part[0].start + first, part[1].start, part[2].start]
    return np.argwhere(surface(stack[part])).astype(np.float64) + corner


def _spacing(case: Case) -> tuple[float, float, float] | None:
    if case.spacing_mm is None or case.place.step_mm is None:
        return None
    return (case.place.step_mm, *case.spacing_mm)


def _sum(overlaps: Iterable[Overlap]) -> Overlap:
    counts = np.array([(each.truth, each.predicted, each.intersection) for each in overlaps])
    return Overlap(*(int(count) for count in counts.sum(axis=0)))
