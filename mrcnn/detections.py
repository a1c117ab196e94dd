"""Detections of a model in one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.instance_masks import InstanceMasks, MasksField, WithMasks


@dataclass(frozen=True)
class Detections(WithMasks):
    """Instances found in one image, best score first, in the pixels of the original image.

    Attributes:
        boxes: (N, 4) float32, (x1, y1, x2, y2), x2 and y2 exclusive.
        scores: (N,) float32 in [0, 1].
        class_ids: (N,) int32, 1-based.
        masks: (N, H, W) bool; the argument is an array or `InstanceMasks`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    class_ids: np.ndarray
    masks: MasksField[np.ndarray]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, confidence: float) -> Detections:
        """Return the detections with a score of at least `confidence`."""
        keep = self.scores >= confidence
        return Detections(self.boxes[keep], self.scores[keep], self.class_ids[keep], self.instances.select(keep))

    def with_classes(self, class_ids: np.ndarray) -> Detections:
        """Return the same detections with other class ids (N,) int32."""
        return Detections(self.boxes, self.scores, class_ids, self.instances)

    @classmethod
    def empty(cls, height: int, width: int) -> Detections:
        """Return no detections for an image of `height` × `width` pixels."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int32),
            InstanceMasks(height, width, []),
        )
