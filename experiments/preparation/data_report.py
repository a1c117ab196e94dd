"""The report of `mrcnn check`: a folder with a page, pictures of annotated images, and the same facts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.evaluation.figures import sizes_figure
from experiments.evaluation.page import NOTICE, bullets, figure, page, paragraph, table, text
from experiments.evaluation.tables import data_text
from experiments.preparation.data_check import CheckedData
from mrcnn.data.fingerprint import SplitSummary
from mrcnn.inference.drawing import contact_sheet, overlay, to_display

PICTURES = 24
"""Annotated images shown, over all splits."""
GROUPS, ALIKE = 12, 4
"""Groups of near-duplicates shown, and images of each."""
COLUMNS = 4
_SIDE = 360  # pixels of the longer side of a picture


def write_report(folder: Path, name: str, checked: CheckedData | None, problems: Sequence[str]) -> Path:
    """Writes the report into `folder`, which is made where it is missing; returns its page, report.html.

    Args:
        checked: None where the data could not be read; then the problems are all there is to tell.
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    parts = [f'<h1>{text(name)}</h1><p class="notice">{NOTICE}</p>', _problems(problems)]
    facts: dict = {"name": name, "problems": list(problems)}
    if checked is not None:
        facts |= {"found": checked.found.as_dict(), "splits": checked.split_lists()}
        parts += [_skipped(checked.found.skipped), _warnings(checked.found.warnings)]
        parts += [_counts(checked), _sizes(checked, folder)]
        parts += [_annotated(checked, folder), _duplicates(checked, folder)]
    (folder / "report.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
    file = folder / "report.html"
    file.write_text(page(name, parts), encoding="utf-8")
    return file


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return paragraph("Nothing found that stands in the way of a training.")
    return f'<h2 class="bad">Problems: {len(problems)}</h2>' + bullets(problems, kind="bad")


def _warnings(warnings: Sequence[str]) -> str:
    return "<h2>Warnings</h2>" + bullets(warnings) if warnings else ""


def _skipped(problems: Sequence[str]) -> str:
    return f"<h2>Left out: {len(problems)}</h2>" + bullets(problems) if problems else ""


def _counts(checked: CheckedData) -> str:
    found = checked.found
    return "<h2>What is there</h2>" + counts_table({**found.splits, "all": found.whole})


def counts_table(parts: Mapping[str, SplitSummary]) -> str:
    """What each split holds."""
    headings = ["", "patients", "images", "without instances", *next(iter(parts.values())).instances]
    rows = [
        (name, part.patients, part.images, part.images_without_instances, *part.instances.values())
        for name, part in parts.items()
    ]
    return table(headings, rows)


def _sizes(checked: CheckedData, folder: Path) -> str:
    records, names = checked.whole.records, checked.whole.class_names
    told = "".join(paragraph(line) for line in data_text(checked.found).splitlines())
    if not records or not checked.found.sides:
        return told
    class_ids = np.concatenate([record.class_ids for record in records])
    sides = np.sqrt(np.concatenate([record.areas for record in records]))
    by_class = {name: sides[class_ids == key] for key, name in enumerate(names, start=1)}
    sizes_figure(by_class).savefig(folder / "pictures" / "sizes.png")
    return told + figure("pictures/sizes.png", "", alternative="sizes of instances")


def _annotated(checked: CheckedData, folder: Path) -> str:
    """Images with their instances drawn, spread over each split, one by one and on one sheet."""
    splits = {name: indices for name, indices in checked.splits.items() if len(indices)}
    splits = splits or {"all": np.arange(len(checked.whole))}
    share, shown, figures = max(PICTURES // len(splits), 1), [], []
    for name, indices in splits.items():
        for index in _spread(indices, share):
            sample = checked.whole[index]
            picture = overlay(sample.image, sample.instances, sample.class_ids, checked.whole.class_names)
            shown.append(_small(picture))
            caption = f"{name}: {sample.source}, patient {sample.patient_id}, instances: {len(sample.class_ids)}"
            figures.append(_figure(folder, f"{len(shown):02d}.jpg", shown[-1], caption))
    _save(folder / "pictures" / "sheet.jpg", contact_sheet(shown, COLUMNS))
    return _gallery("Annotated images", figures)


def _duplicates(checked: CheckedData, folder: Path) -> str:
    """Some groups of images that are nearly the same; those that join patients first."""
    if checked.groups is None or not checked.found.duplicates.groups:
        return ""
    records = checked.whole.records
    groups = [np.flatnonzero(checked.groups == group) for group in np.flatnonzero(np.bincount(checked.groups) > 1)]
    groups.sort(key=lambda members: -len({records[index].patient_id for index in members}))
    figures = []
    for number, members in enumerate(groups[:GROUPS], start=1):
        pictures = [_small(to_display(checked.whole.image(index)), _SIDE // 2) for index in members[:ALIKE]]
        caption = ", ".join(records[index].file_name for index in members[:ALIKE])
        caption += f" and {len(members) - ALIKE} more" if len(members) > ALIKE else ""
        figures.append(_figure(folder, f"alike_{number:02d}.jpg", contact_sheet(pictures, 2), caption))
    shown = f" ({GROUPS} of {len(groups)} groups)" if len(groups) > GROUPS else ""
    return _gallery(f"Images that are nearly the same{shown}", figures)


def _spread(indices: np.ndarray, count: int) -> Iterable[int]:
    """At most `count` of `indices`, evenly spread."""
    places = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int))
    return (int(indices[place]) for place in places)


def _small(picture: np.ndarray, side: int = _SIDE) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    return np.asarray(image)


def _figure(folder: Path, name: str, picture: np.ndarray, caption: str) -> str:
    _save(folder / "pictures" / name, picture)
    return figure(f"pictures/{name}", caption)


def _gallery(title: str, figures: Sequence[str]) -> str:
    return f'<h2>{text(title)}</h2><div class="gallery">{"".join(figures)}</div>'


def _save(path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(path, quality=88)
