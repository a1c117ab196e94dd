"""Render the comparison as one HTML page without other files and network access."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.comparison.cases import draw_cases
from experiments.comparison.comparison import Comparison, read_differences
from experiments.comparison.measurements import Measurement
from experiments.comparison.tables import model_cells, patients_note, score_rows, select_scores, set_title
from experiments.evaluation.page import Chart, Term, embedded, line_chart, render
from experiments.evaluation.tables import DEFINITIONS, LOWER_SCORES, ROWS
from mrcnn.metrics.froc import RATES

MAX_PICTURE_BYTES = 300_000


def page(comparison: Comparison) -> str:
    """Return the HTML of the page."""
    facts = comparison.facts
    return render(
        "comparison.html",
        title=f"Models of {comparison.modality} compared",
        facts=facts,
        labels=comparison.labels,
        verdicts=[f"{each['name']} {each['alias']} {each['reason']}" for each in facts["verdicts"]],
        head_names=[_term(name, ROWS[name]) for name in next(iter(facts["head_to_head"].values()), {})],
        head_to_head=[
            (label, *("" if value is None else f"{value:.3f}" for value in values.values()))
            for label, values in facts["head_to_head"].items()
        ],
        models=[model_cells(model) for model in facts["models"]],
        versions=line_chart("Score of each version", facts["versions"], across="version"),
        test_sets=[_test_set(comparison, position, each) for position, each in enumerate(facts["test_sets"])],
    )


def _test_set(comparison: Comparison, position: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    measured = comparison.on(position)
    labels = list(measured)
    saved = ", ".join(label for label, source in facts["source"].items() if source == "kept")
    return {
        "title": set_title(facts),
        "labels": labels,
        "any_class": select_scores(facts) is not facts["by_class"],
        "patients_note": patients_note(facts),
        "sizes": ", ".join(f"{count} {size}" for size, count in facts["instances_by_size"].items()),
        "saved": saved,
        # Differences first: on a phone only the first columns are visible without scrolling.
        "headings": ["score", *(f"{label} − {labels[0]}" for label in labels[1:]), *labels],
        "scores": [
            (label if label.startswith(" ") else _term(name, label), *differences, *values)
            for name, label, values, differences in score_rows(facts)
        ],
        "curves": _curves(measured),
        "pairs": [_pair(facts, (labels[0], other)) for other in labels[1:]],
        "cases": [
            (
                f"{case.kind}: image {case.number} of the test set",
                [(embedded(picture, max_bytes=MAX_PICTURE_BYTES), caption) for caption, picture in case.pictures],
            )
            for case in (draw_cases(comparison.sets[position], measured) if measured else ())
        ],
    }


def _curves(measured: Mapping[str, Measurement]) -> list[Chart]:
    """Chart precision over recall, and FROC, of all models for any class."""
    precision: dict[str, Sequence[tuple[float, float]]] = {}
    found: dict[str, Sequence[tuple[float, float]]] = {}
    rates = np.linspace(0, RATES[-1], 257)
    for label, each in measured.items():
        for recall, values in each.any_class.pr_curves().values():
            precision[label] = list(zip(recall.tolist(), values.tolist(), strict=True))
        false_positives, sensitivity = each.any_class.froc_curve()
        if len(sensitivity):
            last = np.searchsorted(false_positives, rates, side="right") - 1
            found[label] = list(zip(rates.tolist(), sensitivity[last].tolist(), strict=True))
    charts = [
        line_chart("Precision over recall at mask IoU 0.5, any class", precision, across="recall",
                   y_range=(0, 1), x_range=(0, 1)),
        line_chart("FROC: share of instances found, any class", found, across="false detections per image",
                   y_range=(0, 1), x_range=(0, RATES[-1])),
    ]  # fmt: skip
    return [chart for chart in charts if chart]


def _pair(facts: Mapping[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    """Return the points and intervals of the figures of two models."""
    first, second = (facts["dice_of_patients"][label] for label in names)
    differences = read_differences(facts, names[1])
    # Scores from 0 to 1 share an axis; distances in pixels do not belong on it.
    bars = [
        (label, differences[name].low, differences[name].value, differences[name].high)
        for name, label in ROWS.items()
        if name in differences and name not in LOWER_SCORES and differences[name].low is not None
    ]
    return {
        "names": names,
        "dots": [(patient, first[patient], second[patient]) for patient in first if patient in second],
        "bars": bars,
    }


def _term(name: str, label: str) -> Term:
    return Term(label, DEFINITIONS.get(name, ""))
