"""Write the report of `mrcnn check`: a folder with a page, pictures of annotated images, and the same facts as JSON.

Unlike other pages it names files and patients, because its reader has to correct them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.evaluation.figures import sizes_figure
from experiments.evaluation.page import render
from experiments.evaluation.tables import COUNTS, data_text
from experiments.preparation.data_check import CheckedData
from mrcnn.data.fingerprint import SplitSummary, describe_content, find_disagreements
from mrcnn.data.problems import group_similar
from mrcnn.inference.drawing import contact_sheet, overlay, to_display

MAX_PICTURES = 24
"""Annotated images in the report, over all splits."""
MAX_GROUPS, MAX_ALIKE = 12, 4
"""Groups of near-duplicates in the report, and images of each."""
COLUMNS = 4
_SIDE, _SHEET_SIDE = 1000, 360  # pixels of the longer side of a picture, and of one on a sheet

Figure = tuple[str, str]
"""Path of a picture relative to the page, and its caption."""


def write_report(folder: Path, name: str, checked: CheckedData | None, problems: Sequence[str]) -> Path:
    """Write the report into `folder`, which is created if missing; return its page, report.html.

    It consists of the problems alone where the data could not be read (`checked` is None).
    """
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {"name": name, "problems": list(problems)}
    values: dict[str, Any] = {"counts": None, "pictures": [], "alike": [], "alike_note": "", "sizes": []}
    values |= {"differing": [], "differing_note": ""}
    values |= {"skipped": (), "warnings": (), "size_figure": ""}
    if checked is not None:
        found = checked.found
        facts |= {"found": found.as_dict(), "splits": checked.split_lists()}
        values |= {"skipped": found.skipped, "warnings": found.warnings, "sizes": data_text(found).splitlines()}
        values["counts"] = counts_table({**found.splits, "all": found.whole}, patients_named=found.patients_named)
        values["size_figure"] = _size_figure(checked, folder)
        values["pictures"] = _annotated(checked, folder)
        values["alike"], values["alike_note"] = _duplicates(checked, folder)
        facts["disagreements"], values["differing"], values["differing_note"] = _disagreements(checked, folder)
    (folder / "report.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
    file = folder / "report.html"
    file.write_text(render("check.html", title=name, problems=group_similar(problems), **values), encoding="utf-8")
    return file


def counts_table(
    parts: Mapping[str, SplitSummary], *, patients_named: bool = True
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return headings and rows of a table with the content of each split, without patients if none is named."""
    shown = slice(0 if patients_named else 1, None)
    headings = ["split", *COUNTS[shown], *next(iter(parts.values())).instances]
    rows: list[tuple[str, ...]] = []
    for name, part in parts.items():
        counts = (part.patients, part.images, part.images_without_instances)[shown]
        rows.append((name, *map(str, (*counts, *part.instances.values()))))
    return headings, rows


def _size_figure(checked: CheckedData, folder: Path) -> str:
    records, names = checked.whole.records, checked.whole.class_names
    if not records or not checked.found.sides:
        return ""
    class_ids = np.concatenate([record.class_ids for record in records])
    sides = np.sqrt(np.concatenate([record.areas for record in records]))
    by_class = {name: sides[class_ids == key] for key, name in enumerate(names, start=1)}
    sizes_figure(by_class).savefig(folder / "pictures" / "sizes.png")
    return "pictures/sizes.png"


def _annotated(checked: CheckedData, folder: Path) -> list[Figure]:
    """Draw the instances of images of each split, and all of these on one sheet."""
    splits = {name: indices for name, indices in checked.splits.items() if len(indices)}
    splits = splits or {"all": np.arange(len(checked.whole))}
    share, sheet, figures = max(MAX_PICTURES // len(splits), 1), [], []
    for name, indices in splits.items():
        for index in _spread(indices, share):
            sample = checked.whole[index]
            picture = overlay(sample.image, sample.instances, sample.class_ids, checked.whole.class_names)
            sheet.append(_reduce(picture, _SHEET_SIDE))
            caption = f"{name}: {sample.source}, patient {sample.patient_id}, instances: {len(sample.class_ids)}"
            figures.append(_save(folder, f"{len(sheet):02d}.jpg", _reduce(picture, _SIDE), caption))
    _save(folder, "sheet.jpg", contact_sheet(sheet, COLUMNS), "")
    return figures


def _duplicates(checked: CheckedData, folder: Path) -> tuple[list[Figure], str]:
    """Draw groups of near-duplicates, those of several patients first; return also how many groups are shown."""
    if checked.groups is None or checked.found.duplicates is None or not checked.found.duplicates.groups:
        return [], ""
    records = checked.whole.records
    groups = [np.flatnonzero(checked.groups == group) for group in np.flatnonzero(np.bincount(checked.groups) > 1)]
    groups.sort(key=lambda members: -len({records[index].patient_id for index in members}))
    figures = []
    for number, members in enumerate(groups[:MAX_GROUPS], start=1):
        pictures = [_reduce(to_display(checked.whole.image(index)), _SIDE // 2) for index in members[:MAX_ALIKE]]
        caption = ", ".join(records[index].file_name for index in members[:MAX_ALIKE])
        caption += f" and {len(members) - MAX_ALIKE} more" if len(members) > MAX_ALIKE else ""
        figures.append(_save(folder, f"alike_{number:02d}.jpg", contact_sheet(pictures, 2), caption))
    return figures, f" ({MAX_GROUPS} of {len(groups)} groups)" if len(groups) > MAX_GROUPS else ""


def _disagreements(checked: CheckedData, folder: Path) -> tuple[list[dict[str, Any]], list[Figure], str]:
    """List near-duplicates whose annotations differ, draw the first ones side by side; return how many are drawn."""
    if checked.groups is None:
        return [], [], ""
    whole, listed, figures = checked.whole, [], []
    found = find_disagreements(whole, checked.groups)
    for each in found:
        pair = {whole.records[index].file_name: describe_content(whole, index) for index in (each.first, each.second)}
        listed.append({"kind": each.kind, "images": pair, "pairs": each.pairs})
    for number, each in enumerate(found[:MAX_GROUPS], start=1):
        samples = [whole[each.first], whole[each.second]]
        pictures = [
            _reduce(overlay(one.image, one.instances, one.class_ids, whole.class_names), _SIDE // 2) for one in samples
        ]
        caption = " and ".join(f"{name} ({content})" for name, content in listed[number - 1]["images"].items())
        figures.append(_save(folder, f"differing_{number:02d}.jpg", contact_sheet(pictures, 2), caption))
    return listed, figures, f" ({MAX_GROUPS} of {len(found)} pairs)" if len(found) > MAX_GROUPS else ""


def _spread(indices: np.ndarray, count: int) -> Iterable[int]:
    """Yield at most `count` of `indices`, evenly spread."""
    places = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int))
    return (int(indices[place]) for place in places)


def _reduce(picture: np.ndarray, side: int) -> np.ndarray:
    image = Image.fromarray(picture)
    image.thumbnail((side, side))
    return np.asarray(image)


def _save(folder: Path, name: str, picture: np.ndarray, caption: str) -> Figure:
    Image.fromarray(picture).save(folder / "pictures" / name, quality=88)
    return f"pictures/{name}", caption
