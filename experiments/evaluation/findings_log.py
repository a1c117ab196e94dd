"""Collect the findings of each image during an evaluation, then log them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.evaluation.artifacts import csv_text
from experiments.findings import FINDINGS, ROWS, SUMMARIES
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from trackers.runs.run import Run


class FindingsLog:
    """Findings of each image at the operating point; those named `none` collect and log nothing."""

    def __init__(self, name: str, confidence: float, class_names: Sequence[str]) -> None:
        self.name = name
        self._confidence = confidence
        self._class_names = tuple(class_names)
        self._found: list[dict[str, Any]] = []

    def add(self, sample: Sample, detections: Detections) -> None:
        """Add the findings of one image."""
        if self.name == "none":
            return
        shown = detections.above(self._confidence)
        finding = FINDINGS[self.name](sample.image, shown, self._class_names, sample.spacing_mm, None)
        self._found.append({"source": sample.source, "patient_id": sample.patient_id, **finding})

    def summary(self) -> dict[str, float]:
        """Return metrics of the whole split, without its prefix; empty where the findings have none."""
        return SUMMARIES[self.name](self._found) if self.name in SUMMARIES else {}

    def log(self, run: Run, split: str, step: int) -> None:
        """Log `findings.json`, an entry an image, `findings.csv` where the findings have rows, and the metrics."""
        if self.name == "none":
            return
        run.json(self._found, "findings.json")
        if self.name in ROWS:
            whose = ({"source": found["source"], "patient_id": found["patient_id"]} for found in self._found)
            rows = [own | row for own, found in zip(whose, self._found, strict=True) for row in ROWS[self.name](found)]
            run.text(csv_text(rows), "findings.csv")
        if summary := self.summary():
            run.metrics({f"{split}/{name}": value for name, value in summary.items()}, step)
