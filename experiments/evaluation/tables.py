"""Tables for the terminal: what was found in the data, and the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from mrcnn.data.fingerprint import Fingerprint

ROWS = {
    "mask_ap50": "mask AP50",
    "mask_ap75": "mask AP75",
    "mask_ap10": "mask AP10",
    "mask_ap": "mask AP",
    "box_ap50": "box AP50",
    "box_ap": "box AP",
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95 (px)",
    "hd95_mm": "HD95 (mm)",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "froc": "FROC",
    "detection_rate": "detection rate",
    "volume_dice": "volume Dice",
    "volume_hd95": "volume HD95 (mm)",
}
IMAGE_ROWS = {
    "accuracy": "image accuracy",
    "auc": "image AUC",
    "sensitivity": "image sensitivity",
    "specificity": "image specificity",
    "brier": "Brier score",
    "ece": "calibration error",
}
"""Of telling images apart, whole."""
LOWER_SCORES = ("hd95", "hd95_mm", "volume_hd95")
"""Of these, distances: less is better, and they are not between 0 and 1."""
SIZES_SHOWN = 3
PER_CLASS = ("mask_ap50", "dice", "hd95", "volume_dice", "volume_hd95")

ROWS_SHOWN = 20
FINDING_COLUMNS = (
    "source", "frame", "class", "score", "longest", "level_low", "level_high", "found", "left_area", "right_area",
    "unit",
)  # fmt: skip
"""Of the rows of findings, those that fit on a screen; the files hold all."""


def data_table(found: Fingerprint) -> Table:
    """What each split holds."""
    table = Table()
    for heading in ("", "patients", "images", "without instances", *found.whole.instances):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for split, part in {**found.splits, "all": found.whole}.items():
        if split == "all":
            table.add_section()
        counts = (part.patients, part.images, part.images_without_instances, *part.instances.values())
        table.add_row(split, *map(str, counts))
    return table


def data_text(found: Fingerprint) -> str:
    """Sizes of instances and images in words."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.sizes.items())
    sides = found.sides
    middle = f"; side {sides['50%']:g} px (5–95 %: {sides['5%']:g}–{sides['95%']:g})" if sides else ""
    common = ", ".join(f"{size} ({count})" for size, count in list(found.image_sizes.items())[:SIZES_SHOWN])
    further = len(found.image_sizes) - SIZES_SHOWN
    return f"Instances: {kinds}{middle}\nImages: {common}" + (f" and {further} further sizes" if further > 0 else "")


def results_table(
    scores: Mapping[str, float],
    intervals: Mapping[str, float],
    class_names: Sequence[str],
    over: tuple[str, Mapping[str, tuple[float, float]]] | None = None,
) -> Table:
    """The main scores, with their 95 % intervals where there are any, and mean and standard deviation of
    several trainings, which `over` names."""
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    if over is not None:
        table.add_column(f"{over[0]}, mean ± std", justify="right")
    for name, label in _rows(class_names):
        if name in scores:
            ends = [f"{intervals[name + end]:.3f}" for end in ("_lo", "_hi") if name + end in intervals]
            cells = [label, f"{scores[name]:.3f}", " – ".join(ends)]
            if over is not None:
                cells.append("{:.3f} ± {:.3f}".format(*over[1][name]) if name in over[1] else "")
            table.add_row(*cells)
    return table


def _rows(class_names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, label in ROWS.items():
        yield name, label
        if name in PER_CLASS and len(class_names) > 1:
            yield from ((f"{name}/{each}", f"  {each}") for each in class_names)


def findings_table(summary: Mapping[str, float]) -> Table:
    """What the findings of a set of images come to: shares (`…_rate_…`) and counts."""
    table = Table()
    table.add_column("findings")
    table.add_column("value", justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), f"{value:.1%}" if "_rate_" in name else f"{value:g}")
    return table


def prediction_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The first findings of a prediction, a row each; columns that are empty throughout are left out."""
    shown = rows[:ROWS_SHOWN]
    columns = [name for name in FINDING_COLUMNS if any(row.get(name) is not None for row in shown)]
    further = len(rows) - len(shown)
    table = Table(caption=f"… and {further} further, in findings.csv" if further else None)
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in shown:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else escape(str(value))
