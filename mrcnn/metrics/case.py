"""Store truth and detections of one image compactly: run lengths, no arrays of image size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mrcnn.data.sample import Sample, SlicePosition, Spacing
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks
from mrcnn.metrics.matching import MATCH_IOU, match
from mrcnn.rle import Rle, encode, ious, subtract_crowds


@dataclass(frozen=True)
class Case:
    """Store truth and detections of one image.

    Attributes:
        place: position in a volume; None if the image is not a slice.
        truth_classes: (N,) int32, 1-based.
        truth: N masks.
        classes: (D,) int32, best score first, like `scores`, `boxes` and `predicted`.
        scores: (D,) float32.
        boxes: (D, 4) float64 in COCO order (x, y, width, height).
        predicted: D masks.
        matched: (D,) int64, index of the instance that each detection matches, or -1.
        ignored: (D,) bool, detections that match no instance and are in a crowd of their class: no false positives.
        crowds: K crowd regions.
        crowd_classes: (K,) int32.
        threshold: confidence threshold of this image, which overrides the argument of methods; None for none.
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

    def detections(self, confidence: float) -> Detections:
        """Return the detections with a score of at least `confidence`."""
        count = self.count_above(confidence)
        boxes = np.concatenate([self.boxes[:count, :2], self.boxes[:count, :2] + self.boxes[:count, 2:]], axis=1)
        masks = InstanceMasks(self.height, self.width, [rle["counts"] for rle in self.predicted[:count]])
        return Detections(boxes.astype(np.float32), self.scores[:count], self.classes[:count], masks)

    def count_above(self, confidence: float) -> int:
        """Count the detections with a score of at least `confidence`, which are the first ones."""
        return int((self.scores >= (confidence if self.threshold is None else self.threshold)).sum())

    def regions(self, count: int, class_id: int) -> tuple[list[Rle], list[Rle]]:
        """Return the masks of a class in the truth, and in the first `count` detections without crowd pixels."""
        truth = masks_of_class(self.truth, self.truth_classes, class_id)
        predicted = masks_of_class(self.predicted[:count], self.classes[:count], class_id)
        return truth, subtract_crowds(predicted, masks_of_class(self.crowds, self.crowd_classes, class_id), truth)

    def with_detections(self, indices: Sequence[int] | np.ndarray) -> Case:
        """Return a copy with only the detections at `indices`, matched again."""
        indices = np.sort(np.asarray(indices, int))
        predicted, classes = tuple(self.predicted[index] for index in indices), self.classes[indices]
        matched, ignored = _match(predicted, classes, self.truth, self.truth_classes, self.crowds, self.crowd_classes)
        return replace(
            self,
            classes=classes,
            scores=self.scores[indices],
            boxes=self.boxes[indices],
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
    """Compute `Case.matched` and `Case.ignored` as COCOeval: instances have priority, a crowd matches any number."""
    matched = match(ious(predicted, truth), truth_classes, classes)
    same = classes[:, None] == crowd_classes[None, :]
    within = (ious(predicted, crowds, crowds=True) >= MATCH_IOU) & same
    return matched, within.any(axis=1) & (matched < 0)


def make_case(sample: Sample, detections: Detections, class_count: int) -> Case:
    """Encode and match the detections of an image.

    Raises:
        InputError: the detections have another image size, or a class id is not in 1 … `class_count`.

    Example:
        >>> mask = np.zeros((1, 6, 6), bool)
        >>> mask[0, 1:3, 1:3] = True
        >>> sample = Sample(np.zeros((6, 6, 1), np.uint8), mask, np.array([1], np.int32), "anna", "a.png")
        >>> box, scores = np.array([[1, 1, 3, 3]], np.float32), np.array([0.9], np.float32)
        >>> case = make_case(sample, Detections(box, scores, np.array([1], np.int32), mask), class_count=1)
        >>> case.boxes.tolist(), case.matched.tolist()
        ([[1.0, 1.0, 2.0, 2.0]], [0])
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
    if sample.crowds is not None and sample.crowd_ids is not None:
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


def masks_of_class(rles: Sequence[Rle], class_ids: np.ndarray, class_id: int) -> list[Rle]:
    """Select the masks of one class.

    Example:
        >>> len(masks_of_class(encode(np.ones((3, 2, 2), bool)), np.array([1, 2, 1]), class_id=1))
        2
    """
    return [rle for rle, each in zip(rles, class_ids, strict=True) if each == class_id]
