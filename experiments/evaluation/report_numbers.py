"""The numbers of a report: curves over the epochs, and tables of results with their intervals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from experiments.evaluation.page import Points, bullets, line_chart, paragraph, table
from experiments.evaluation.tables import IMAGE_ROWS, PER_CLASS, ROWS
from trackers.runs.names import Names
from trackers.runs.reader import RunRecord, history

CURVES = {
    "Validation: segmentation": ("mask_ap50", "mask_ap", "dice", "volume_dice"),
    "Validation: at the threshold of the epoch": ("precision", "recall", "f1", "confidence"),
}
NOT_LOSSES = ("loss", "learning_rate", "epoch_seconds")
SIZES = {"small": "small: under 32² px", "medium": "medium", "large": "large: from 96² px"}
COUNTS = {
    "detections": "detections at the working threshold",
    "true_positives": "of them true",
    "false_positives": "of them false",
    "misses": "instances missed",
    "hd95_skipped": "pairs of image and class without HD95, as truth or prediction is empty",
    "volumes": "volumes",
    "volume_hd95_skipped": "pairs of volume and class without HD95",
}


def training(run: RunRecord) -> str:
    """Losses, validation and learning rate over the epochs; the best epoch is marked."""
    epochs = run.metrics.get("epochs")

    def points(name: str) -> Points:
        # What was measured after the last epoch is a result.
        return [(step, value) for step, value in history(run.run_id, name) if epochs is None or step <= epochs]

    best = run.metrics.get("best_epoch")
    mark = None if best is None else (best, f"best epoch: {best:.0f}")
    losses = sorted(name for name in run.metrics if name.startswith("train/") and name[6:] not in NOT_LOSSES)
    charts = [
        line_chart("Training: loss", {"loss": points("train/loss")}, across="epoch", mark=mark),
        line_chart("Training: parts of the loss", {name[6:].replace("_", " "): points(name) for name in losses},
                   across="epoch", mark=mark),
    ]  # fmt: skip
    for title, names in CURVES.items():
        lines = {ROWS.get(name, name): points(f"val/{name}") for name in names if f"val/{name}" in run.metrics}
        charts.append(line_chart(title, lines, across="epoch", mark=mark, ends=(0, 1)))
    classes = list(_of_classes(run, "dice", "val").items())
    if len(classes) > 1:
        lines = {name: points(metric) for name, metric in classes if metric in run.metrics}
        charts.append(line_chart("Validation: Dice of each class", lines, across="epoch", mark=mark, ends=(0, 1)))
    charts.append(
        line_chart("Learning rate", {"learning rate": points("train/learning_rate")}, across="epoch", mark=mark)
    )
    shown = "".join(chart for chart in charts if chart)
    told = [f"Epochs: {epochs:.0f}, of which the best was number {best:.0f}"] if epochs and best else []
    return bullets(told) + f'<div class="pair">{shown}</div>' if shown else ""


def results(run: RunRecord) -> str:
    """Tables of the scores: overall, of each class, by size, and counts."""
    scores = run.scores()
    overall = [(label, *_cells(run, name)) for name, label in (ROWS | IMAGE_ROWS).items() if name in scores]
    if not overall:
        return paragraph("No score is recorded.")
    with_intervals = any(ends for _, _, ends in overall)
    columns = 3 if with_intervals else 2
    parts = [table(["metric", "value", "95 % interval"][:columns], [row[:columns] for row in overall], title="Overall")]
    if scores.get("detections") == 0:
        parts.append(paragraph("Nothing was detected at the working threshold."))
    parts.append(_per_class(run))
    sizes = [(label, _number(scores.get(f"mask_ap_{size}")), _number(scores.get(f"box_ap_{size}")))
             for size, label in SIZES.items() if f"mask_ap_{size}" in scores]  # fmt: skip
    if sizes:
        parts.append(table(["instances by area", "mask AP", "box AP"], sizes, title="By size"))
    counted = [(label, f"{scores[name]:.0f}") for name, label in COUNTS.items() if name in scores]
    parts.append(table(["", ""], counted, title="Counts") if counted else "")
    told = "Intervals are 95 %, by bootstrap over patients."
    if not with_intervals:
        told = "No intervals: there are fewer than two patients, or none were asked for (evaluate.resamples)."
    parts.append(paragraph(f"{told} AP and FROC are of all detections, the other scores of those at the threshold."))
    return "\n".join(parts)


def _per_class(run: RunRecord) -> str:
    """A row for each class; empty with one class, whose scores are the overall ones."""
    classes, scores = _classes(run), run.scores()
    columns = {score: _of_classes(run, score, run.split) for score in PER_CLASS}
    columns = {score: named for score, named in columns.items() if any(name in run.metrics for name in named.values())}
    if len(classes) < 2 or not columns:
        return ""
    rows = []
    for each in classes:
        names = [named[each].removeprefix(f"{run.split}/") for named in columns.values()]
        cells = [_cells(run, name) if name in scores else (_number(None), "") for name in names]
        rows.append((each, *(f"{value} ({ends})" if ends else value for value, ends in cells)))
    return table(["class", *(ROWS[score] for score in columns)], rows, title="Each class")


def _classes(run: RunRecord) -> Sequence[str]:
    return list(run.profile.get("whole", {}).get("instances", {}))


def _of_classes(run: RunRecord, score: str, split: str) -> Mapping[str, str]:
    """Class → name of its metric, which MLflow may have made to differ (`trackers.runs.names`)."""
    names = Names()
    return {each: names(f"{split}/{score}/{each}") for each in _classes(run)}


def _cells(run: RunRecord, name: str) -> tuple[str, str]:
    ends = run.interval(name)
    return _number(run.scores()[name]), f"{ends[0]:.3f} – {ends[1]:.3f}" if ends else ""


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


SHORTEST = 4
"""Characters of a name that is looked for; shorter ones, and mere digits, are in every sentence."""


def anonymize_warnings(lines: Iterable[str], splits: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """`lines` with `[name]` in place of what names an image or a patient of `splits`.

    Names are those of files, with and without folder and ending, patients, and folders that hold one patient alone.
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
    sought = sorted((name for name in names if len(name) >= SHORTEST and not name.isdigit()), key=len, reverse=True)
    if not sought:
        return list(lines)
    expression = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, sought))})(?!\w)")
    return [expression.sub("[name]", line) for line in lines]
