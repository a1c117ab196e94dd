"""Name and define the metrics, and build tables of data and results for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

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
    "detection_ece": "calibration error",
}
IMAGE_ROWS = {
    "accuracy": "image accuracy",
    "auc": "image AUC",
    "sensitivity": "image sensitivity",
    "specificity": "image specificity",
    "brier": "Brier score",
    "ece": "calibration error",
}
"""Scores of the classification of whole images."""
DEFINITIONS = {
    "mask_ap50": "Average precision (COCO): mean precision over 101 recalls, mean over classes. A detection is true if "
    "its mask overlaps an instance of its class with IoU of at least 0.5. Uses all detections, whatever their score.",
    "mask_ap75": "Average precision as AP50, with IoU of at least 0.75: needs accurate outlines.",
    "mask_ap10": "Average precision as AP50, with IoU of at least 0.1: is the instance found at all?",
    "mask_ap": "Average precision (COCO), mean over the IoU thresholds 0.5, 0.55 … 0.95.",
    "box_ap50": "Average precision as mask AP50, with the IoU of boxes.",
    "box_ap": "Average precision as mask AP, with the IoU of boxes.",
    "dice": "2 · |A ∩ B| / (|A| + |B|) of the true and the predicted region of a class in an image, mean over images, "
    "then over classes. An image with an instance in only one of the two counts as 0; with neither it is left out.",
    "iou": "|A ∩ B| / |A ∪ B| of the same regions as Dice, averaged in the same way.",
    "hd95": "95th percentile of the distances between the true and the predicted outline in pixels; less is better. "
    "Images where either is empty are left out.",
    "hd95_mm": "95th percentile of the distances between the true and the predicted outline in mm; less is better.",
    "precision": "True detections / all detections at the confidence threshold, over all images and classes.",
    "recall": "Instances found / all instances at the confidence threshold, over all images and classes; sensitivity.",
    "f1": "Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).",
    "froc": "Mean share of instances found at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false detections per image.",
    "detection_rate": "Share of the images with instances in which every instance was found.",
    "volume_dice": "Dice of the regions in all slices of a volume, mean over volumes, then over classes.",
    "volume_hd95": "95th percentile of the distances between the surfaces in a volume in mm; less is better.",
    "detection_ece": "Expected calibration error of the scores: mean difference between the score of detections and "
    "the share of them that are true, in ten bins of the score; less is better. Uses all detections.",
    "accuracy": "Images classified correctly / all images.",
    "auc": "Area under the ROC curve: chance that a positive image has a higher score than a negative one.",
    "sensitivity": "Positive images classified as positive / all positive images.",
    "specificity": "Negative images classified as negative / all negative images.",
    "brier": "Mean squared difference between probability and label (Brier 1950); less is better.",
    "ece": "Expected calibration error: mean difference between probability and frequency in ten bins; less is better.",
}
LOWER_SCORES = ("hd95", "hd95_mm", "volume_hd95", "detection_ece")
"""Scores of which less is better."""
SIZES_SHOWN = 3
COUNTS = ("patients", "images", "without instances")
"""Headings of the counts of a split; images without a name of their patient count as a patient each."""
PER_CLASS = ("mask_ap50", "dice", "hd95", "precision", "recall", "f1", "volume_dice", "volume_hd95")

ROBUSTNESS_COLUMNS = ("images", "Dice", "difference", "mask AP50")
ROWS_SHOWN = 20
FINDING_COLUMNS = (
    "source", "frame", "class", "score", "longest", "level_low", "level_high", "found", "left_area", "right_area",
    "unit",
)  # fmt: skip
"""Columns of the rows of findings that fit on a screen; the files contain all."""


def duration_text(seconds: float) -> str:
    """Format a duration as `45 s`, `3 min 20 s` or `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def data_table(found: Fingerprint) -> Table:
    """Count patients, if any is named, images and instances of each split."""
    table = Table()
    shown = slice(0 if found.patients_named else 1, None)
    for heading in ("", *COUNTS[shown], *found.whole.instances):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    for split, part in {**found.splits, "all": found.whole}.items():
        if split == "all":
            table.add_section()
        counts = (part.patients, part.images, part.images_without_instances)[shown]
        table.add_row(split, *map(str, (*counts, *part.instances.values())))
    return table


def data_text(found: Fingerprint) -> str:
    """Describe the sizes of instances and images in two lines."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.sizes.items())
    sides = found.sides
    middle = f"; side {sides['50%']:g} px (5–95 %: {sides['5%']:g}–{sides['95%']:g})" if sides else ""
    common = ", ".join(f"{size} ({count})" for size, count in list(found.image_sizes.items())[:SIZES_SHOWN])
    further = len(found.image_sizes) - SIZES_SHOWN
    return f"Instances: {kinds}{middle}\nImages: {common}" + (
        f" and {further} other size{'s' * (further > 1)}" if further > 0 else ""
    )


def difference_text(value: float) -> str:
    """Format a difference with its sign; one that rounds to zero has none.

    Example:
        >>> difference_text(0.0312), difference_text(-0.0004)
        ('+0.031', '0.000')
    """
    text = f"{value:+.3f}"
    return text if text.strip("+-0.") else "0.000"


def interval_text(intervals: Mapping[str, float], name: str, between: str = " – ") -> str:
    """Format the 95 % interval of a score, `<name>_lo` and `<name>_hi`; empty without one."""
    low, high = (intervals.get(f"{name}{end}") for end in ("_lo", "_hi"))
    return "" if low is None or high is None else f"{low:.3f}{between}{high:.3f}"


def results_table(
    scores: Mapping[str, float],
    intervals: Mapping[str, float],
    class_names: Sequence[str],
    over: tuple[str, Mapping[str, tuple[float, float]]] | None = None,
) -> Table:
    """Show the main scores with their 95 % intervals, and mean and standard deviation of several trainings.

    `over` is the name of the trainings, such as `3 seeds`, and (mean, standard deviation) by score.
    """
    table = Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    if over is not None:
        table.add_column(f"{over[0]}, mean ± std", justify="right")
    for name, label in _rows(class_names):
        if name in scores:
            cells = [label, f"{scores[name]:.3f}", interval_text(intervals, name)]
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
    """Show the summary of the findings of several images: shares (`…_rate_…`) and counts."""
    table = Table()
    table.add_column("findings")
    table.add_column("value", justify="right")
    for name, value in summary.items():
        table.add_row(name.replace("_", " "), f"{value:.1%}" if "_rate_" in name else f"{value:g}")
    return table


def robustness_table(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Show the rows of `experiments.evaluation.robustness.robustness_rows`."""
    table = Table(*(Column(name, justify="right" if at else "left") for at, name in enumerate(ROBUSTNESS_COLUMNS)))
    for row in rows:
        table.add_row(*row)
    return table


def prediction_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Show the first findings of a prediction, without empty columns."""
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
