"""Report which lungs were found on a chest radiograph, their areas, and the detection rates of a set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.detections import Detections
from mrcnn.errors import InputError

NOTICE = "Research use only"
SIDES = ("left", "right")
FOUND = ("none", "one", "both")


def lungs(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    spacing_mm: tuple[float, float] | None = None,
    reader_input: None = None,
) -> dict[str, Any]:
    """Report the lungs that were found in an image; several detections of one side count as one lung.

    Args:
        image: (H, W) or (H, W, C); not used.
        detections: detected lungs.
        class_names: one contains the word left and one the word right.
        spacing_mm: (row, column) size of a pixel; without it areas are in pixels.
        reader_input: not used; part of the interface of findings.

    Returns:
        `found`: both, one or none; `sides`: those found; `unit`; `left` and `right`, each None or its
        `area`, `share_of_image` and best `score`; `notice`.

    Raises:
        InputError: the classes have no left and right.
    """
    pixel = spacing_mm[0] * spacing_mm[1] if spacing_mm else 1.0
    result: dict[str, Any] = {}
    for side in SIDES:
        mine = np.isin(detections.class_ids, _class_ids(side, class_names))
        area = int(np.count_nonzero(detections.instances.select(mine).union()))
        result[side] = None
        if area:
            result[side] = {
                "area": area * pixel,
                "share_of_image": area / math.prod(detections.instances.shape[1:]),
                "score": float(detections.scores[mine].max()),
            }
    sides = [side for side in SIDES if result[side]]
    return {
        "found": FOUND[len(sides)],
        "sides": sides,
        "unit": "mm²" if spacing_mm else "px",
        **result,
        "notice": NOTICE,
    }


def lung_rows(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Build the table row of an image."""
    row: dict[str, Any] = {"found": finding["found"]}
    for side in SIDES:
        of_side = finding[side] or {}
        row |= {f"{side}_{name}": of_side.get(name) for name in ("area", "share_of_image", "score")}
    return [{**row, "unit": finding["unit"], "notice": finding["notice"]}]


def detection_rates(findings: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Compute how often both lungs, one and none were found; empty without images.

    `detection_rate_both` … are shares, `detection_images_both` … counts of images.
    """
    counts = {word: sum(finding["found"] == word for finding in findings) for word in reversed(FOUND)}
    shares = {f"detection_rate_{word}": count / len(findings) for word, count in counts.items() if findings}
    return shares | {f"detection_images_{word}": float(count) for word, count in counts.items() if findings}


def _class_ids(side: str, class_names: Sequence[str]) -> list[int]:
    found = [number for number, name in enumerate(class_names, start=1) if side in name.lower()]
    if not found:
        raise InputError(f"findings=lungs: classes are {', '.join(class_names)}; expected one called {side}_lung")
    return found
