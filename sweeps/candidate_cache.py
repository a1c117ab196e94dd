"""Cache the candidates of a model before suppression, so that thresholds can be searched without the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.evaluation.evaluate import predictions
from mrcnn.data import Dataset
from mrcnn.metrics.case import Case, make_case, masks_of_class
from mrcnn.metrics.matching import MATCH_IOU, match, overlap
from mrcnn.models import MaskRCNN
from mrcnn.rle import ious, subtract_crowds


def cache_candidates(model: MaskRCNN, dataset: Dataset, *, batch_size: int) -> list[Case]:
    """Predict each image without the final suppression of overlapping candidates.

    The candidates are the regions with the highest scores, from `config.score_threshold` on.
    """
    config = model.config
    slots = model.conventions.num_nms_candidates(config.proposals, len(config.class_names))
    unsuppressed = MaskRCNN(
        config.model_copy(update={"nms_iou": 1.0, "max_detections": slots}), seed=model.seed, dtype=model.dtype_policy
    )
    unsuppressed.set_weights(model.get_weights())
    found = predictions(unsuppressed, dataset, batch_size=batch_size)
    return [make_case(sample, detections, len(config.class_names)) for sample, detections in found]


@dataclass(frozen=True)
class Shown:
    """The result for one class of one image at its thresholds.

    Attributes:
        dice: NaN if truth and detections are both empty.
        hits: true positives.
        counted: detections that are not ignored in a crowd.
    """

    dice: float
    hits: int
    counted: int


class CandidatePool:
    """The candidates of one class in one image, best score first.

    The survivors of suppression change only when the threshold passes the IoU of two candidates, and the confidence
    selects the first of them. So each outcome is computed once, for any number of thresholds.

    Attributes:
        places: positions of the candidates in the case.
    """

    def __init__(self, case: Case, class_id: int, least_score: float) -> None:
        self.places = np.flatnonzero((case.classes == class_id) & (case.scores >= least_score))
        self._case, self._class_id = case, class_id
        self._overlaps = box_ious(case.boxes[self.places])
        self._edges = np.unique(self._overlaps[np.triu_indices(len(self.places), 1)])
        self._survivors: dict[int, np.ndarray] = {}
        self._matched: dict[int, np.ndarray] = {}
        self._shown: dict[tuple[int, int], Shown] = {}

    @cached_property
    def _truth(self) -> tuple:
        return tuple(masks_of_class(self._case.truth, self._case.truth_classes, self._class_id))

    @cached_property
    def _crowds(self) -> tuple:
        return tuple(masks_of_class(self._case.crowds, self._case.crowd_classes, self._class_id))

    @cached_property
    def _in_crowd(self) -> np.ndarray:
        within = ious([self._case.predicted[place] for place in self.places], self._crowds, crowds=True)
        return np.asarray((within >= MATCH_IOU).any(axis=1))

    @cached_property
    def _mask_ious(self) -> np.ndarray:
        return ious([self._case.predicted[place] for place in self.places], self._truth)

    def kept(self, nms_iou: float, confidence: float) -> tuple[int, int]:
        """Identify the outcome by the rank of `nms_iou` among the overlaps and the number of candidates shown."""
        between = int(np.searchsorted(self._edges, nms_iou, side="right"))
        if between not in self._survivors:
            self._survivors[between] = survivors(self._overlaps, nms_iou)
        scores = self._case.scores[self.places[self._survivors[between]]]
        return between, int((scores >= confidence).sum())

    def chosen(self, outcome: tuple[int, int]) -> np.ndarray:
        """Return the positions in the case of the selected candidates."""
        return self.places[self._survivors[outcome[0]][: outcome[1]]]

    def shown(self, outcome: tuple[int, int]) -> Shown:
        """Return the scores of an outcome."""
        if outcome not in self._shown:
            between, count = outcome
            if between not in self._matched:
                # The match of a detection does not depend on later ones, so it is valid for every confidence.
                rows = self._survivors[between]
                same = np.ones(len(rows), int), np.ones(len(self._truth), int)
                self._matched[between] = match(self._mask_ious[rows], same[1], same[0])
            predicted = [self._case.predicted[place] for place in self.chosen(outcome)]
            hit = self._matched[between][:count] >= 0
            ignored = self._in_crowd[self._survivors[between][:count]] & ~hit
            dice = overlap(self._truth, subtract_crowds(predicted, self._crowds, self._truth)).dice
            self._shown[outcome] = Shown(dice, int(hit.sum()), count - int(ignored.sum()))
        return self._shown[outcome]


def box_ious(boxes: np.ndarray) -> np.ndarray:
    """Compute the (N, N) IoU of boxes (N, 4) in COCO's order (x, y, width, height)."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    both = np.maximum(sides, 0).prod(-1)
    area = boxes[:, 2:].prod(-1)
    union = area[:, None] + area[None] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def survivors(overlaps: np.ndarray, nms_iou: float) -> np.ndarray:
    """Return the rows of `overlaps` (N, N), best score first, that greedy suppression at `nms_iou` selects."""
    kept: list[int] = []
    for row in range(len(overlaps)):
        if not (overlaps[row, kept] > nms_iou).any():
            kept.append(row)
    return np.array(kept, int)


def suppressed(cases: Sequence[Case], nms_iou: Sequence[float], most: int) -> Iterator[Case]:
    """Yield each case as predicted with one threshold per class and at most `most` detections."""
    for case in cases:
        places = []
        for class_id, threshold in enumerate(nms_iou, 1):
            own = np.flatnonzero(case.classes == class_id)
            places.append(own[survivors(box_ious(case.boxes[own]), threshold)])
        yield case.with_detections(np.sort(np.concatenate(places))[:most])
