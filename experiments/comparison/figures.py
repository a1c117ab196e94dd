"""Figures of the comparison page: SVG charts, and test images with the annotation and the detections of each model.

The charts take their colors from the style of the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from experiments.comparison.joint_test_set import TestSet
from experiments.comparison.measurements import ANY_CLASS, Measurement, group_by_image, to_any_class
from experiments.comparison.paired_difference import PairedDifference
from experiments.prediction.results import coco_to_detections
from mrcnn.inference.drawing import overlay
from mrcnn.metrics import Evaluator

CASES_PER_KIND = 2


@dataclass(frozen=True)
class Case:
    """One image of a test set.

    Attributes:
        kind: `best`, `worst` or `most different`.
        number: position in the test set, from 1. Pages are shared, so they contain no names of files and patients.
        pictures: caption and (H, W, 3) uint8: the annotation, then each model.
    """

    kind: str
    number: int
    pictures: tuple[tuple[str, np.ndarray], ...]


def select_cases(dice: Mapping[str, list[float | None]]) -> list[tuple[str, int]]:
    """Select the images where the models are most different, worst and best by Dice; none twice.

    Args:
        dice: model → Dice of each image. Images without a value for any model are ignored; if only some models have
            no value, it counts as 0.

    Returns:
        Kind and position of each selected image.
    """
    rows = list(zip(*dice.values(), strict=True))
    defined = {
        index: [value or 0.0 for value in row] for index, row in enumerate(rows) if any(v is not None for v in row)
    }
    orders = {
        "most different": sorted(defined, key=lambda i: min(defined[i]) - max(defined[i])),
        "worst": sorted(defined, key=lambda i: sum(defined[i])),
        "best": sorted(defined, key=lambda i: -sum(defined[i])),
    }
    if len(dice) < 2:
        del orders["most different"]
    selected: list[tuple[str, int]] = []
    for kind, order in orders.items():
        free = [index for index in order if index not in {index for _, index in selected}]
        selected += [(kind, index) for index in free[:CASES_PER_KIND]]
    return selected


def draw_cases(test_set: TestSet, measured: Mapping[str, Measurement]) -> list[Case]:
    """Draw the selected images, in the classes of the test set if all models have them."""
    by_class = all(each.by_class is not None for each in measured.values())
    names = test_set.images.class_names if by_class else ANY_CLASS
    evaluators: dict[str, Evaluator] = {
        label: each.by_class if by_class else each.any_class for label, each in measured.items()
    }
    dice = {
        label: [row["dice"] for row in evaluator.per_case(measured[label].confidence)]
        for label, evaluator in evaluators.items()
    }
    results = {label: group_by_image(evaluator.coco_results()) for label, evaluator in evaluators.items()}
    cases = []
    for kind, index in select_cases(dice):
        sample = test_set.images[index]
        if not by_class:
            sample = to_any_class(sample)
        pictures = [("truth", overlay(sample.image, sample.instances, sample.class_ids, names))]
        height, width = sample.image.shape[:2]
        for label, each in measured.items():
            shown = coco_to_detections(results[label].get(index + 1, []), height, width).above(each.confidence)
            picture = overlay(sample.image, shown.instances, shown.class_ids, names, scores=shown.scores)
            value = dice[label][index]
            score = "no instances, no detections" if value is None else f"Dice {value:.3f}"
            pictures.append((f"{label}: {score}", picture))
        cases.append(Case(kind, index + 1, tuple(pictures)))
    return cases


def data_url(picture: np.ndarray) -> str:
    """Encode a picture (H, W, 3) uint8 as a data URL, as JPEG to limit the size of the page."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


_SIDE, _MARGIN = 300, 44
_ROW, _NAMES, _WIDE = 24, 104, 400


def scatter_chart(first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str]) -> str:
    """Plot the Dice of each patient: the first model on the x axis, the second on the y axis, with the diagonal."""
    shared = [patient for patient in first if patient in second]
    edge, end = _MARGIN, _MARGIN + _SIDE
    parts = [_frame(f"Dice of each patient, {names[0]} across and {names[1]} up", end + 14, end + 30)]
    parts.append(f'<rect class="area" x="{edge}" y="10" width="{_SIDE}" height="{_SIDE}"/>')
    parts.append(f'<line class="guide" x1="{edge}" y1="{_SIDE + 10}" x2="{end}" y2="10"/>')
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = edge + tick * _SIDE, 10 + (1 - tick) * _SIDE
        parts.append(f'<text x="{x:.0f}" y="{_SIDE + 26}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{edge - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    for patient in shared:
        across, up = first[patient], second[patient]
        tooltip = f"patient {patient}: {names[0]} {across:.3f}, {names[1]} {up:.3f}"
        parts.append(
            f'<circle class="dot" cx="{edge + across * _SIDE:.1f}" cy="{10 + (1 - up) * _SIDE:.1f}" r="4.5">'
            f"<title>{escape(tooltip)}</title></circle>"
        )
    middle = 10 + _SIDE / 2
    parts.append(f'<text x="{edge + _SIDE / 2}" y="{_SIDE + 46}" text-anchor="middle">{escape(names[0])}</text>')
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(names[1])}</text>'
    )
    return "".join([*parts, "</svg>"])


def interval_chart(rows: Sequence[tuple[str, PairedDifference]], names: tuple[str, str]) -> str:
    """Plot each difference as a dot and its interval as a bar around zero; return an empty text without intervals."""
    rows = [(label, each) for label, each in rows if each.low is not None]
    if not rows:
        return ""
    most = max(max(abs(each.low), abs(each.high), abs(each.value)) for _, each in rows) or 1.0
    height = len(rows) * _ROW + 58
    middle, half = _NAMES + (_WIDE - _NAMES - 20) / 2, (_WIDE - _NAMES - 40) / 2
    parts = [_frame(f"Differences {names[1]} minus {names[0]} with 95 % intervals", _WIDE, height)]
    parts.append(f'<line class="guide" x1="{middle}" y1="24" x2="{middle}" y2="{height - 30}"/>')
    parts.append(f'<text x="{middle - 8}" y="16" text-anchor="end">← {escape(names[0])} better</text>')
    parts.append(f'<text x="{middle + 8}" y="16">{escape(names[1])} better →</text>')
    for position, (label, each) in enumerate(rows):
        y = 24 + (position + 0.5) * _ROW
        low, value, high = (middle + end / most * half for end in (each.low, each.value, each.high))
        parts.append(f'<text x="{_NAMES}" y="{y + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<line class="bar" x1="{low:.1f}" y1="{y}" x2="{high:.1f}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{value:.1f}" cy="{y}" r="4.5"/>')
    for end in (-most, 0, most):
        x = middle + end / most * half
        parts.append(f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{end:+.2g}</text>')
    return "".join([*parts, "</svg>"])


def _frame(title: str, width: float, height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" '
        f'role="img"><title>{escape(title)}</title>'
    )
