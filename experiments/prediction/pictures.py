"""Overlay and colour splash of what was found, each with the notice of its use below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mrcnn.detections import Detections
from mrcnn.inference.drawing import captioned, color_splash, contact_sheet, overlay

SHEET_SLICES = 12
SHEET_COLUMNS = 4


def overlay_picture(image: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """(H', W', 3) uint8; see `mrcnn.inference.drawing.overlay`."""
    return overlay(image, found.instances, found.class_ids, class_names, scores=found.scores)


def splash_picture(image: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """(H', W', 3) uint8; see `mrcnn.inference.drawing`."""
    return captioned(color_splash(image, found.instances, found.class_ids), class_names)


PICTURES: Mapping[str, Callable[[np.ndarray, Detections, Sequence[str]], np.ndarray]] = {
    "overlay": overlay_picture,
    "splash": splash_picture,
}


def sheet(
    form: str,
    counts: Mapping[int, int],
    frame: Callable[[int], tuple[np.ndarray, Detections]],
    class_names: Sequence[str],
) -> np.ndarray:
    """Slices of a stack on one sheet: up to `SHEET_SLICES`, evenly among those where something was found, in order.

    Args:
        form: one of `PICTURES`.
        counts: slice → how many instances there are.
        frame: slice → its image and what was found.
    """
    shown = [number for number, count in counts.items() if count] or list(counts)[len(counts) // 2 :][:1]
    chosen = sorted({shown[index] for index in np.linspace(0, len(shown) - 1, SHEET_SLICES).round().astype(int)})
    pictures = [PICTURES[form](*frame(number), class_names) for number in chosen]
    return contact_sheet(pictures, SHEET_COLUMNS)
