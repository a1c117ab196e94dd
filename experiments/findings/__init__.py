"""What a clinician reads from the masks of one image, by name. Travels with the packaged model.

A finding is a function `(image, detections, class_names, spacing_mm, reader_input) -> dict`: the image (H, W) or
(H, W, C), what was found in it at the working threshold, the names of the classes, the (row, column) size of a pixel in
mm or None, and what a reader adds or None. The dict can be written as JSON as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from experiments.findings.lungs import detection_rates, lung_rows, lungs
from experiments.findings.nodules import nodule_rows, nodules

__all__ = ["FINDINGS", "ROWS", "SUMMARIES"]


def none(*_: object) -> dict[str, Any]:
    """Nothing is read from the masks."""
    return {}


FINDINGS: Mapping[str, Callable[..., dict[str, Any]]] = MappingProxyType(
    {"none": none, "nodules": nodules, "lungs": lungs}
)
ROWS: Mapping[str, Callable[[Mapping[str, Any]], list[dict[str, Any]]]] = MappingProxyType(
    {"nodules": nodule_rows, "lungs": lung_rows}
)
"""The rows of a table that an image's finding makes."""
SUMMARIES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], dict[str, float]]] = MappingProxyType(
    {"lungs": detection_rates}
)
"""Metrics of the findings of a set of images."""
