"""Convert instances to a label map with one class id per pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn.data.readers.volumes.brats import REGIONS
from mrcnn.detections import Detections


def to_label_map(found: Detections, class_names: Sequence[str], objects: np.ndarray | None = None) -> np.ndarray:
    """Return class ids (H, W), 0 for background; uint8, or uint16 for more than 255 classes.

    With `objects`, (N,) numbers of the instances, see `mrcnn.inference.linking`, these in place of class ids, uint16.

    The instance with the highest score takes overlapping pixels; with nested regions
    (`mrcnn.data.readers.volumes.brats.REGIONS`) the innermost does.
    """
    values = found.class_ids if objects is None else objects
    small = objects is None and len(class_names) < 256
    labels = np.zeros(found.instances.shape[1:], np.uint8 if small else np.uint16)
    nested = tuple(class_names) == REGIONS
    order = np.argsort(found.class_ids if nested else found.scores, kind="stable")
    for index in order:
        crop = found.instances.crop(index)
        labels[crop.slices][crop.pixels] = values[index]
    return labels
