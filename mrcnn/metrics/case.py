"""What the evaluation keeps of one image: run lengths and small numbers, no arrays of its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mrcnn.data.sample import Sample, SlicePosition, Spacing
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.metrics.matching import MATCH_IOU, match
from mrcnn.metrics.rle import Rle, encode, intersection_over_area, ious, subtract_crowds


@dataclass(frozen=True)
class Case:
    """Truth and detections of one image.

    Attributes:
        truth_classes: (N,) int32, 1-based; truth: the N masks.
        classes: (D,) int32, best score first, as are scores (D,) float32, boxes (D, 4) float64 in COCO's order
            (x, y, width, height), and predicted, the D masks.
        matched: (D,) int64, position of the instance that each detection found, or -1.
        ignored: (D,) bool, detections that found no instance and lie in a crowd of their class: no false positives.
        crowds: the K regions of crowds; crowd_classes: (K,) int32.
        threshold: a working threshold of the image's own, which goes before any other; None for none.
    """

    source: str
    patient_id: str
    height: int
    width: int
    spacing_mm: Spacing | None
    place: SlicePosition | None
    truth_classes: np.ndarray
    truth: tuple[Rle, ...]
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    predicted: tuple[Rle, ...]
    matched: np.ndarray
    ignored: np.ndarray
    crowds: tuple[Rle, ...] = ()
    crowd_classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    threshold: float | None = None

    def shown(self, confidence: float) -> int:
        """Detections with a score of at least `confidence`: the first so many, compared as `Detections.above` does."""
        return int((self.scores >= (confidence if self.threshold is None else self.threshold)).sum())

    def regions(self, shown: int, class_id: int) -> tuple[list[Rle], list[Rle]]:
        """The masks of a class in the truth and in the first `shown` detections, these without what lies in a crowd."""
        truth = masks_of_class(self.truth, self.truth_classes, class_id)
        predicted = masks_of_class(self.predicted[:shown], self.classes[:shown], class_id)
        return truth, subtract_crowds(predicted, masks_of_class(self.crowds, self.crowd_classes, class_id), truth)

    def with_detections(self, places: Sequence[int]) -> Case:
        """The same with the detections at `places` alone, matched anew."""
        places = np.sort(np.asarray(places, int))
        predicted, classes = tuple(self.predicted[place] for place in places), self.classes[places]
        matched, ignored = _match(predicted, classes, self.truth, self.truth_classes, self.crowds, self.crowd_classes)
        return replace(
            self,
            classes=classes,
            scores=self.scores[places],
            boxes=self.boxes[places],
            predicted=predicted,
            matched=matched,
            ignored=ignored,
        )


def _match(
    predicted: Sequence[Rle],
    classes: np.ndarray,
    truth: Sequence[Rle],
    truth_classes: np.ndarray,
    crowds: Sequence[Rle],
    crowd_classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`Case.matched` and `Case.ignored`; as COCOeval, an instance goes before a crowd, and a crowd takes any number."""
    matched = match(ious(predicted, truth), truth_classes, classes)
    same = classes[:, None] == crowd_classes[None, :]
    within = (intersection_over_area(predicted, crowds) >= MATCH_IOU) & same
    return matched, within.any(axis=1) & (matched < 0)


def make_case(sample: Sample, detections: Detections, class_count: int) -> Case:
    """Keep what is needed.

    Raises:
        InputError: detections of another image size, or a class id that the class names do not have.
    """
    height, width = sample.image.shape[:2]
    if detections.instances.shape != (len(detections), height, width):
        raise InputError(
            f"{sample.source}: detections' masks have shape {detections.instances.shape}, "
            f"expected {(len(detections), height, width)}, the size of the image"
        )
    for what, ids in (("annotations", sample.class_ids), ("detections", detections.class_ids)):
        if len(ids) and not 1 <= ids.min() <= ids.max() <= class_count:
            raise InputError(
                f"{sample.source}: class ids {ids.min()} to {ids.max()} in {what}, expected 1 to {class_count}"
            )
    crowds, crowd_classes = (), np.zeros(0, np.int32)
    if sample.crowds is not None:
        crowds, crowd_classes = tuple(encode(sample.crowds)), sample.crowd_ids.copy()
    order = np.argsort(-detections.scores, kind="stable")
    truth, predicted = encode(sample.instances), encode(detections.instances.select(order))
    classes = detections.class_ids[order]
    matched, ignored = _match(predicted, classes, truth, sample.class_ids, crowds, crowd_classes)
    corners = detections.boxes[order].astype(np.float64).reshape(-1, 4)
    return Case(
        source=sample.source,
        patient_id=sample.patient_id,
        height=height,
        width=width,
        spacing_mm=sample.spacing_mm,
        place=sample.place,
        truth_classes=sample.class_ids.copy(),
        truth=tuple(truth),
        classes=classes,
        scores=detections.scores[order],
        boxes=np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1),
        predicted=tuple(predicted),
        matched=matched,
        ignored=ignored,
        crowds=crowds,
        crowd_classes=crowd_classes,
    )


def masks_of_class(rles: tuple[Rle, ...], class_ids: np.ndarray, class_id: int) -> list[Rle]:
    """Those of one class."""
    return [rle for rle, each in zip(rles, class_ids, strict=True) if each == class_id]
