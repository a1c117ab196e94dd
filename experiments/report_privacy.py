"""Warnings that may be passed on: without the names of files and patients."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

SHORTEST = 4
"""Characters of a name that is looked for; shorter ones, and mere digits, are in every sentence."""


def without_names(lines: Iterable[str], splits: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
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
