"""Mirror images of an image, and what was found in them put back; for test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from mrcnn.detections import Detections

FLIPS = ("horizontal", "vertical")
View = tuple[str, ...]
"""The flips that make it; the image itself is the view of none."""


def flipped_views(flips: Sequence[str]) -> list[View]:
    """Every combination of `flips`, the image itself first.

    Raises:
        ValueError: another flip than those of `FLIPS`, or one given twice.
    """
    if not set(flips) <= set(FLIPS) or len(set(flips)) != len(flips):
        raise ValueError(f"flips={list(flips)}: expected each once of {', '.join(FLIPS)}")
    return [view for count in range(len(flips) + 1) for view in combinations(flips, count)]


def flip_image(image: np.ndarray, view: View) -> np.ndarray:
    """An image (H, W) or (H, W, C) as the view shows it."""
    if "horizontal" in view:
        image = image[:, ::-1]
    if "vertical" in view:
        image = image[::-1]
    return np.ascontiguousarray(image)


def flip_detections(found: Detections, view: View, mirrored_ids: np.ndarray | None = None) -> Detections:
    """Detections in a view put back into the image, or the other way round.

    Args:
        mirrored_ids: (K + 1,) what each class id becomes in a left-right mirror image; None where no class tells a
            side. Upside down classes stay, as in `mrcnn.data.Augmentation`.
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
