"""Compute findings from the masks of one image, by name. Saved with the packaged model.

A finding is a function `(image, detections, class_names, spacing_mm, reader_input) -> dict`: the image (H, W) or
(H, W, C), the detections at the confidence threshold, the class names, the (row, column) size of a pixel in mm or None,
and the input of a reader or None. The dict can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from experiments.findings.lungs import detection_rates, lung_rows, lungs
from experiments.findings.nodules import nodule_rows, nodules

__all__ = ["FINDINGS", "ROWS", "SUMMARIES"]


def none(*_: object) -> dict[str, Any]:
    """Return no finding."""
    return {}


FINDINGS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {"none": none, "nodules": nodules, "lungs": lungs}
)
ROWS: Mapping[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = MappingProxyType(
    {"nodules": nodule_rows, "lungs": lung_rows}
)
"""Functions from the finding of an image to the rows of a table."""
SUMMARIES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]] = MappingProxyType(
    {"lungs": detection_rates}
)
"""Functions from the findings of several images to metrics."""
