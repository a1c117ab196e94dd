"""Dice and IoU of two regions, each the union of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pycocotools import mask as coco_mask

from mrcnn.metrics.rle import Rle


@dataclass(frozen=True)
class Overlap:
    """Pixels of the true region, of the predicted one, and of both at once."""

    truth: int
    predicted: int
    intersection: int

    @property
    def dice(self) -> float:
        """2|T∩P| / (|T|+|P|) (Dice 1945); NaN where both are empty, 0 where exactly one is."""
        total = self.truth + self.predicted
        return 2 * self.intersection / total if total else float("nan")

    @property
    def iou(self) -> float:
        """|T∩P| / |T∪P| (Jaccard 1912); NaN where both are empty, 0 where exactly one is."""
        union = self.truth + self.predicted - self.intersection
        return self.intersection / union if union else float("nan")


def overlap(truth: Sequence[Rle], predicted: Sequence[Rle]) -> Overlap:
    """Overlap of the union of `truth` with the union of `predicted`; either may hold no mask."""
    if not truth or not predicted:
        return Overlap(_union_area(truth), _union_area(predicted), 0)
    unions = [coco_mask.merge(list(truth)), coco_mask.merge(list(predicted))]
    both = coco_mask.merge(unions, intersect=True)
    return Overlap(*(int(pixels) for pixels in coco_mask.area([*unions, both])))


def _union_area(rles: Sequence[Rle]) -> int:
    return int(coco_mask.area(coco_mask.merge(list(rles)))) if rles else 0
