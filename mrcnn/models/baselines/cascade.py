"""Two networks one after the other: a classifier decides which images a segmenter sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.detections import Detections
from mrcnn.models.baselines.classifier import Classifier


class Cascade:
    """Finds instances as the segmenter does in images that are probably positive, and none in the others.

    Args:
        classifier: decides.
        segmenter: a `MaskRCNN`, a `ResUNet`, or anything with `detect` and `config.class_names`.
        threshold: the least calibrated probability of an image that the segmenter sees.
    """

    def __init__(self, classifier: Classifier, segmenter, threshold: float) -> None:
        self.classifier, self.segmenter, self.threshold = classifier, segmenter, threshold
        self.config = segmenter.config

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """As the segmenter's `detect`; images that it does not see are empty."""
        seen = np.flatnonzero(self.classifier.probabilities(images, batch_size=batch_size) >= self.threshold)
        found = [Detections.none(*np.shape(image)[:2]) for image in images]
        # Asked of nothing, a segmenter need not answer.
        answers = self.segmenter.detect([images[index] for index in seen], batch_size=batch_size) if len(seen) else []
        for index, detections in zip(seen, answers, strict=True):
            found[index] = detections
        return found
