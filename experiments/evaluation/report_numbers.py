"""Compute the numbers of a report: curves over the epochs, tables of results, the summary and what to try next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from experiments.evaluation.page import Chart, Points, Term, class_colors, line_chart
from experiments.evaluation.tables import DEFINITIONS, IMAGE_ROWS, PER_CLASS, ROWS
from mrcnn.data.fingerprint import LARGE, SMALL
from trackers.runs.names import Names
from trackers.runs.reader import RunRecord, history

NOTHING_FOUND = "nothing_found"
"""Tag of a run whose model found nothing on the validation split: the score that is 0."""
ADVICE = (
    "Check the outlines with mrcnn check; train longer (--preset best), with a larger input (--image_size) or more "
    "images; docs/how-to/troubleshooting.md#the-model-finds-nothing"
)

Row = dict[str, str]
"""A row of a CSV file."""

CURVES = {
    "Validation: segmentation": ("mask_ap50", "mask_ap", "dice", "volume_dice"),
    "Validation: at the threshold of the epoch": ("precision", "recall", "f1", "confidence"),
}
NOT_LOSSES = ("loss", "learning_rate", "epoch_seconds")
SIZES = {"small": "small: under 32² px", "medium": "medium", "large": "large: from 96² px"}
COUNTS = {
    "detections": "detections at the confidence threshold",
    "true_positives": "true detections",
    "false_positives": "false detections",
    "misses": "instances missed",
    "hd95_skipped": "pairs of image and class without HD95, because truth or prediction is empty",
    "volumes": "volumes",
    "volume_hd95_skipped": "pairs of volume and class without HD95",
}
DIAMETERS = {10: "under 10 mm", 20: "10 to 20 mm", 40: "20 to 40 mm", float("inf"): "from 40 mm"}
"""Upper limit in mm and name of each group of instances."""
AREAS = {SMALL: "under 32² px", LARGE: "32² to 96² px", float("inf"): "from 96² px"}
MIN_GROUP = 5
"""Instances of a group below which its recall is not reported as a weakness."""


def term(name: str) -> Term:
    """Return the label of a metric with its definition."""
    return Term((ROWS | IMAGE_ROWS).get(name, name), DEFINITIONS.get(name, ""))


def training_charts(run: RunRecord) -> list[Chart]:
    """Chart losses, validation scores and learning rate over the epochs; the best epoch is marked."""
    epochs = run.metrics.get("epochs")

    def points(name: str) -> Points:
        # Values after the last epoch are results.
        return [(step, value) for step, value in history(run.run_id, name) if epochs is None or step <= epochs]

    best = run.metrics.get("best_epoch")
    mark = None if best is None else (best, f"best epoch: {best:.0f}")

    def chart(title: str, metrics: Mapping[str, str], **options: Any) -> Chart | None:
        lines = {label: points(name) for label, name in metrics.items() if name in run.metrics}
        return line_chart(title, lines, across="epoch", mark=mark, **options)

    losses = sorted(name[6:] for name in run.metrics if name.startswith("train/") and name[6:] not in NOT_LOSSES)
    parts = {part: {name.replace("_", " "): f"{part}/{name}" for name in losses} for part in ("train", "val")}
    charts = [
        chart("Loss", {"training": "train/loss", "validation": "val/loss"}),
        chart("Training: parts of the loss", parts["train"]),
        chart("Validation: parts of the loss", parts["val"] if "val/loss" in run.metrics else {}),
    ]
    for title, names in CURVES.items():
        charts.append(chart(title, {ROWS.get(name, name): f"val/{name}" for name in names}, y_range=(0, 1)))
    names = _metric_of_class(run, "dice", "val")
    if len(names) > 1:
        charts.append(chart("Validation: Dice of each class", names, y_range=(0, 1), colors=class_colors(list(names))))
    charts.append(chart("Learning rate", {"learning rate": "train/learning_rate"}))
    return [each for each in charts if each]


def result_tables(run: RunRecord, instances: Sequence[Row] = ()) -> dict[str, Any]:
    """Build the tables of scores: overall, of each class, by size, and counts; empty without scores.

    Args:
        run: with its metrics and parameters.
        instances: rows of per_instance.csv.
    """
    scores = run.scores()
    overall = [(term(name), *_cells(run, name)) for name in (*ROWS, *IMAGE_ROWS) if name in scores]
    with_intervals = any(row[2] for row in overall)
    columns = 3 if with_intervals else 2
    headings, rows = _per_class(run)
    return {
        "headings": ["metric", "value", "95 % interval"][:columns],
        "overall": [row[:columns] for row in overall],
        "with_intervals": with_intervals,
        "nothing_detected": scores.get("detections") == 0,
        "class_headings": headings,
        "per_class": rows,
        "by_size": [
            (label, _number(scores.get(f"mask_ap_{size}")), _number(scores.get(f"box_ap_{size}")))
            for size, label in SIZES.items()
            if f"mask_ap_{size}" in scores
        ],
        "groups": [
            (name, str(total), str(found), _percent(found, total)) for name, found, total in size_groups(instances)
        ],
        "counts": [(label, f"{scores[name]:.0f}") for name, label in COUNTS.items() if name in scores],
    }


def size_groups(instances: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Count the instances found in each group of size, in mm if all images have a spacing, else by COCO's limits.

    Returns:
        Name of the group, instances found, instances; without empty groups.
    """
    in_mm = all(row["diameter_mm"] for row in instances)
    limits, column = (DIAMETERS, "diameter_mm") if in_mm else (AREAS, "area")
    groups: dict[str, list[bool]] = {name: [] for name in limits.values()}
    for row in instances:
        limit = next(limit for limit in limits if float(row[column]) < limit)
        groups[limits[limit]].append(row["found"] == "True")
    return [(name, sum(found), len(found)) for name, found in groups.items() if found]


def class_groups(instances: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Count the instances found of each class, as `size_groups`."""
    groups: dict[str, list[bool]] = {}
    for row in instances:
        groups.setdefault(row["class"], []).append(row["found"] == "True")
    return [(name, sum(found), len(found)) for name, found in groups.items()]


def patient_table(cases: Sequence[Row]) -> list[tuple[str, ...]]:
    """Sum the images of each patient: number, images, instances, found, missed, false, mean Dice.

    Patients have numbers in the order of their first image, because pages are shared.
    """
    if not cases or "instances" not in cases[0]:
        return []
    patients: dict[str, list[Row]] = {}
    for case in cases:
        patients.setdefault(case["patient_id"], []).append(case)
    rows = []
    for number, images in enumerate(patients.values(), start=1):
        dice = [float(image["dice"]) for image in images if image["dice"]]
        totals = (sum(int(image[name]) for image in images)
                  for name in ("instances", "true_positives", "misses", "false_positives"))  # fmt: skip
        mean = _number(sum(dice) / len(dice) if dice else None)
        rows.append((str(number), str(len(images)), *map(str, totals), mean))
    return rows


def summary(run: RunRecord, instances: Sequence[Row], noun: str) -> list[str]:
    """Describe the main results in one to three plain sentences; empty without counts of instances."""
    scores = run.scores()
    total, images = scores.get("instances"), scores.get("images")
    if not total or not images or "true_positives" not in scores:
        return []
    found = scores["true_positives"]
    lines = [
        f"Finds {found:.0f} of {total:.0f} {noun} ({_percent(found, total)}), with "
        f"{_rate(scores['false_positives'], images)}."
    ]
    if "dice" in scores:
        lines.append(f"Mean Dice: {scores['dice']:.2f} (1 is a perfect outline).")
    if weakness := weakest_group(instances, noun):
        name, hits, count = weakness
        lines.append(f"Weakest on {name}: {hits} of {count} found ({_percent(hits, count)}).")
    return lines


def _percent(part: float, total: float) -> str:
    """Format a share; it is 0% only for none and 100% only for all."""
    rounded = round(100 * part / total)
    return f"{min(max(rounded, int(part > 0)), 100 - int(part < total))}%"


def _rate(count: float, images: float) -> str:
    """Format false marks per image; a rate below 0.1 keeps its first digit, because 1 in 24 images is not 0.0."""
    rate = count / images
    return f"{rate:{'.1f' if rate >= 0.1 else '.1g'}} false marks an image" if count else "no false mark"


def weakest_group(instances: Sequence[Row], noun: str) -> tuple[str, int, int] | None:
    """Return the group of size or class with the lowest recall, if it is clearly below the recall of all instances.

    The name completes a sentence: `nodules under 10 mm`, `nodules of 10 to 20 mm`, `nodules of class hypo`.
    """
    groups = [
        (f"{noun} {'of ' * name[0].isdigit()}{name}", found, total) for name, found, total in size_groups(instances)
    ]
    groups += [(f"{noun} of class {name}", found, total) for name, found, total in class_groups(instances)]
    groups = [each for each in groups if each[2] >= MIN_GROUP]
    if not groups:
        return None
    overall = sum(row["found"] == "True" for row in instances) / len(instances)
    worst = min(groups, key=lambda each: each[1] / each[2])
    return worst if worst[1] / worst[2] <= overall - 0.05 else None


def suggestions(run: RunRecord, warnings: Sequence[str]) -> list[str]:
    """Suggest what to try next, from rules on the recorded metrics; at most four lines."""
    scores, lines = run.scores(), []
    epochs, best = run.metrics.get("epochs"), run.metrics.get("best_epoch")
    if NOTHING_FOUND in run.tags:
        lines.append(f"The model found nothing: {run.tags[NOTHING_FOUND]}. {ADVICE}")
    if run.synthetic:
        lines.append("Train on images of your own: mrcnn check my-data, then mrcnn train --dataset my-data.")
    if warnings:
        lines.append("Read the warnings of the data check below: annotations that contradict each other cost most.")
    if epochs and best and best >= 0.95 * epochs:
        lines.append("Train longer (--epochs): the best epoch is one of the last.")
    elif epochs and best and best < 0.5 * epochs:
        lines.append("Stop earlier or augment more: validation was best before the middle of the training.")
    small, large = scores.get("mask_ap_small"), scores.get("mask_ap_large")
    if small is not None and large is not None and small < 0.5 * large:
        lines.append("Raise --image_size: small instances are found far less well than large ones.")
    precision, recall = scores.get("precision"), scores.get("recall")
    if precision is not None and recall is not None and abs(precision - recall) > 0.15:
        way = "Raise" if precision < recall else "Lower"
        lines.append(f"{way} --confidence if {'false marks' if precision < recall else 'misses'} matter more to you.")
    if 0 < scores.get("patients", 0) < 20:
        lines.append(f"Evaluate on more patients: {scores['patients']:.0f} give wide intervals (--folds uses all).")
    return lines[:4]


def _per_class(run: RunRecord) -> tuple[list[str | Term], list[tuple[str, ...]]]:
    """Return headings and a row for each class; no row with one class, whose scores are the overall ones."""
    classes, scores = _classes(run), run.scores()
    columns = {score: _metric_of_class(run, score, run.split) for score in PER_CLASS}
    columns = {score: named for score, named in columns.items() if any(name in run.metrics for name in named.values())}
    if len(classes) < 2 or not columns:
        return [], []
    rows = []
    for each in classes:
        names = [named[each].removeprefix(f"{run.split}/") for named in columns.values()]
        cells = [_cells(run, name) if name in scores else (_number(None), "") for name in names]
        rows.append((each, *(f"{value}\n{ends}" if ends else value for value, ends in cells)))
    return ["class", *map(term, columns)], rows


def _classes(run: RunRecord) -> Sequence[str]:
    return list(run.profile.get("whole", {}).get("instances", {}))


def _metric_of_class(run: RunRecord, score: str, split: str) -> dict[str, str]:
    """Return the name of the metric of each class, which MLflow may have changed (`trackers.runs.names`)."""
    names = Names()
    return {each: names(f"{split}/{score}/{each}") for each in _classes(run)}


def _cells(run: RunRecord, name: str) -> tuple[str, str]:
    ends = run.interval(name)
    return _number(run.scores()[name]), f"{ends[0]:.3f} – {ends[1]:.3f}" if ends else ""


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


MIN_NAME_LENGTH = 4
"""Shorter names, and mere digits, are not replaced: they occur in every sentence."""


def anonymize_warnings(lines: Iterable[str], splits: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """Replace the names of images and patients of `splits` in `lines` by `[name]`.

    Names are those of files, with and without folder and suffix, patients, and folders with images of only one patient.
    """
    entries = [entry for listed in splits.values() for entry in listed]
    owners: dict[str, set[str]] = {}
    names: set[str] = set()
    for entry in entries:
        path = PurePosixPath(entry["file_name"].replace("\\", "/"))
        names |= {entry["file_name"], path.name, path.stem, entry["patient_id"]}
        owners.setdefault(path.parent.name, set()).add(entry["patient_id"])
    if len({entry["patient_id"] for entry in entries}) > 1:
        names |= {folder for folder, patients in owners.items() if len(patients) == 1}
    sought = sorted(
        (name for name in names if len(name) >= MIN_NAME_LENGTH and not name.isdigit()), key=len, reverse=True
    )
    if not sought:
        return list(lines)
    expression = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sought))})(?!\w)")
    return [expression.sub("[name]", line) for line in lines]
