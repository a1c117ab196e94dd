"""Read attributes of the images, such as view, scanner or sex, and compute all scores for each of their values."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from experiments.evaluation.tables import ROWS, interval_text
from mrcnn.data import Dataset
from mrcnn.data.dataset import Record
from mrcnn.data.readers import coco_files
from mrcnn.errors import InputError
from mrcnn.metrics import Evaluator

NOT_STATED = "not stated"
MOST_VALUES = 20
_PATIENT_COLUMN = re.compile(r"patient|subject|case|participant", re.IGNORECASE)


@dataclass(frozen=True)
class Subgroup:
    """The images with one value of an attribute.

    Attributes:
        value: the value, or `NOT_STATED`.
        indices: positions of the images.
        patients: number of patients.
        scores: see `Evaluator.summary`.
        intervals: 95 % intervals, `<name>_lo` and `<name>_hi`; empty with fewer than two patients.
    """

    value: str
    indices: np.ndarray
    patients: int
    scores: Mapping[str, float]
    intervals: Mapping[str, float]


def read_attributes(dataset: Dataset, path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Find each attribute in the CSV files beside the data, or in the image entries of COCO files.

    A row belongs to an image if one of its columns holds the file name of the image, with or without folder and suffix;
    otherwise, if a column with `patient`, `subject` or `case` in its name holds the patient.

    Returns:
        The value of each image by attribute.

    Raises:
        InputError: no file has the attribute, no image has a value or one has several, or there are more than
            `MOST_VALUES` different values.
    """
    tables = _read_tables(path) if names else {}
    found = {}
    for name in names:
        having = {file: rows for file, rows in tables.items() if any(name in row for row in rows)}
        if not having:
            columns = sorted({column for rows in tables.values() for row in rows for column in row if column})
            raise InputError(
                f"--subgroups {name}: no such column; "
                + (f"expected one of {', '.join(columns)}" if columns else f"expected a CSV file beside {path}")
            )
        file, rows = next(iter(having.items()))
        found[name] = _values(dataset.records, rows, name, file)
    return found


def measure_subgroups(
    evaluator: Evaluator, values: Sequence[str], confidence: float, *, resamples: int, seed: int,
    metric: str, higher_is_better: bool,
) -> list[Subgroup]:  # fmt: skip
    """Compute the scores of the images of each value, worst first by `metric`; subgroups without it come last."""
    found = []
    for value in dict.fromkeys(values):
        indices = np.flatnonzero(np.array(values) == value)
        part = evaluator.subset(indices)
        intervals = part.intervals(confidence, resamples, seed)
        found.append(Subgroup(value, indices, len(set(part.patients)), part.summary(confidence), intervals))
    sign = 1 if higher_is_better else -1
    return sorted(found, key=lambda each: sign * each.scores[metric] if metric in each.scores else np.inf)


def subgroups_table(name: str, subgroups: Sequence[Subgroup], metric: str) -> Table:
    """Build a table with the main scores of each subgroup, the worst first."""
    table = Table()
    names = [each for each in dict.fromkeys((metric, "mask_ap50", "dice", "recall")) if each in ROWS]
    for heading in (name, "patients", "images", *(ROWS[each] for each in names)):
        table.add_column(heading, justify="left" if heading == name else "right", overflow="fold")
    for each in subgroups:
        cells = [str(each.patients), str(len(each.indices))]
        for score in names:
            ends = interval_text(each.intervals, score)
            value = f"{each.scores[score]:.3f}" if score in each.scores else ""
            cells.append(f"{value} ({ends})" if ends else value)
        table.add_row(escape(each.value), *cells)
    return table


def _read_tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read all CSV files and COCO image lists: file name → rows."""
    tables: dict[str, list[dict[str, Any]]] = {}
    folder = path if path.is_dir() else path.parent
    for file in sorted(folder.glob("*.csv")):
        try:
            with file.open(newline="", encoding="utf-8-sig") as text:
                tables[file.name] = [dict(row) for row in csv.DictReader(text)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{file}: not readable as CSV in UTF-8 ({error})") from error
    if coco_files.matches(path):
        for file in coco_files.find_coco_files(path):
            images = coco_files.load_coco(file)["images"]
            tables.setdefault("images", []).extend(image for image in images if isinstance(image, dict))
    return tables


def _by_path(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).as_posix()


def _by_name(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).name


def _by_stem(text: str) -> str:
    return PurePosixPath(text.replace("\\", "/")).stem


def _values(records: Sequence[Record], rows: Sequence[Mapping[str, Any]], name: str, file: str) -> list[str]:
    """Return the value of each image in the rows of a table."""
    column, form = _key_column(records, rows, file, name)
    values: dict[str, set[str]] = {}
    for row in rows:
        value = row.get(name)
        text = "" if value is None else " ".join(str(value).split())
        values.setdefault(form(str(row.get(column) or "")), set()).add(text or NOT_STATED)
    found = []
    for record in records:
        key = form(record.file_name) if form is not str else record.patient_id
        of_image = values.get(key, {NOT_STATED})
        if len(of_image) > 1:
            raise InputError(
                f"--subgroups {name}: {file} has {' and '.join(sorted(of_image))} for {record.file_name}; expected one"
            )
        found.append(next(iter(of_image)))
    if len(set(found)) > MOST_VALUES:
        raise InputError(
            f"--subgroups {name}: {len(set(found))} different values in {file}; expected at most {MOST_VALUES}"
        )
    return found


def _key_column(
    records: Sequence[Record], rows: Sequence[Mapping[str, Any]], file: str, name: str
) -> tuple[str, Callable[[str], str]]:
    """Find the column that names the most images, and how: `str` compares it with patients, the others with files."""
    columns = dict.fromkeys(column for row in rows for column in row if column is not None)
    best: tuple[int, str, Callable[[str], str]] = (0, "", str)
    for form in (_by_path, _by_name, _by_stem, str):
        keys = [record.patient_id if form is str else form(record.file_name) for record in records]
        for column in columns:
            if form is str and not _PATIENT_COLUMN.search(column):
                continue
            held = {form(str(row[column])) for row in rows if row.get(column) not in (None, "")}
            matches = sum(key in held for key in keys)
            if matches > best[0]:
                best = (matches, column, form)
    if not best[0]:
        raise InputError(
            f"--subgroups {name}: no column of {file} holds the images' file names or patients; expected one that does"
        )
    return best[1], best[2]
