"""Flip images and detections for test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from mrcnn.detections import Detections

FLIPS = ("horizontal", "vertical")
View = tuple[str, ...]
"""Flips of a view; empty for the image itself."""


def flipped_views(flips: Sequence[str]) -> list[View]:
    """Return every combination of `flips`, the image itself first.

    Raises:
        ValueError: a flip is not in `FLIPS`, or is repeated.
    """
    if not set(flips) <= set(FLIPS) or len(set(flips)) != len(flips):
        raise ValueError(f"flips={list(flips)}: expected each once of {', '.join(FLIPS)}")
    return [view for count in range(len(flips) + 1) for view in combinations(flips, count)]


def flip_image(image: np.ndarray, view: View) -> np.ndarray:
    """Flip an image (H, W) or (H, W, C)."""
    if "horizontal" in view:
        image = image[:, ::-1]
    if "vertical" in view:
        image = image[::-1]
    return np.ascontiguousarray(image)


def flip_detections(found: Detections, view: View, mirrored_ids: np.ndarray | None = None) -> Detections:
    """Flip detections from a view to the image or from the image to a view.

    Args:
        found: detections.
        view: flips.
        mirrored_ids: (K + 1,), the class id after a horizontal flip for each class id; None if no class has a side. A
            vertical flip does not change classes, as in `mrcnn.data.Augmentation`.
    """
    height, width = found.instances.shape[1:]
    if "horizontal" in view:
        boxes = found.boxes.copy()
        boxes[:, 0], boxes[:, 2] = width - found.boxes[:, 2], width - found.boxes[:, 0]
        class_ids = found.class_ids if mirrored_ids is None else np.asarray(mirrored_ids, np.int32)[found.class_ids]
        found = replace(found, boxes=boxes, class_ids=class_ids, masks=found.instances.flip(horizontal=True))
    if "vertical" in view:
        boxes = found.boxes.copy()
        boxes[:, 1], boxes[:, 3] = height - found.boxes[:, 3], height - found.boxes[:, 1]
        found = replace(found, boxes=boxes, masks=found.instances.flip(vertical=True))
    return found
