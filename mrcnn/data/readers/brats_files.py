"""Which files of a folder belong to which case, by the names that the BraTS challenges gave them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrcnn.data.io.file_types import files_below
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

MODALITIES = ("flair", "t1", "t1ce", "t2")
LABELS = "seg"
_CALLED = {
    "flair": ("flair", "t2f"),
    "t1": ("t1", "t1n"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
    LABELS: ("seg", "segm", "gtv"),
}
_KINDS = {name: kind for kind, names in _CALLED.items() for name in names}
_FILE = re.compile(rf"(?:(.+)[-_])?({'|'.join(_KINDS)})(?:[-_]norm)?\.nii(?:\.gz)?", re.IGNORECASE)
_VISIT = re.compile(r"(BraTS(?:-[A-Za-z]+)+-\d+)-\d+")


@dataclass(frozen=True)
class CaseFiles:
    """A head: its name, and its files by kind, `MODALITIES` and `LABELS`."""

    name: str
    files: Mapping[str, Path]


def kind_of(path: Path) -> str | None:
    """What a file is by its name: one of `MODALITIES`, `LABELS`, or None."""
    match = _FILE.fullmatch(path.name)
    return None if match is None or path.name.startswith(".") else _KINDS[match[2].lower()]


def find_cases(root: Path, problems: Problems, *, labelled: bool = True) -> list[CaseFiles]:
    """All cases in a folder and those below it, in the order of their names; not `labelled`, label maps may be missing.

    Files of one folder are one case, called as the folder, unless a kind is there twice; then those with the same
    beginning are one. So the case of BraTS 2020 whose label map bears another name is whole.

    Raises:
        InputError: there is no such folder, or no file of such a name in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with cases of <case>_flair.nii.gz … <case>_seg.nii.gz")
    folders: dict[Path, list[tuple[str, str, Path]]] = defaultdict(list)
    for path in sorted(files_below(root, "**/*.nii*")):
        if match := _FILE.fullmatch(path.name):
            folders[path.parent].append((match[1] or path.parent.name, _KINDS[match[2].lower()], path))
    if not folders:
        raise InputError(
            f"{root}: holds no case; expected files such as <case>_flair.nii.gz or <case>-t2f.nii.gz, and _seg beside"
        )
    cases = []
    for folder, found in folders.items():
        if len({kind for _, kind, _ in found}) == len(found):
            found = [(folder.resolve().name, kind, path) for _, kind, path in found]
        by_case: dict[str, dict[str, Path]] = defaultdict(dict)
        for name, kind, path in found:
            if kind in by_case[name]:
                problems.add(f"{name}: {by_case[name][kind].name} and {path.name} are both {kind}; expected one")
            by_case[name][kind] = path
        cases += [CaseFiles(name, files) for name, files in by_case.items()]
    for name, count in Counter(case.name for case in cases).items():
        if count > 1:
            problems.add(f"{name}: {count} cases have this name; expected each once")
    for case in cases:
        if labelled and LABELS not in case.files:
            problems.add_passable(
                f"{case.name}: has no label map; expected a file that ends in _seg.nii.gz or -seg.nii.gz"
            )
    return sorted(cases, key=lambda case: case.name)


def choose_modalities(
    asked: Sequence[str] | None, cases: Sequence[CaseFiles], problems: Problems
) -> tuple[tuple[str, ...], list[str]]:
    """The modalities to read, and warnings; without a wish those that every case has."""
    counts = Counter(kind for case in cases for kind in case.files)
    if asked is None:
        chosen = tuple(name for name in MODALITIES if counts[name] == len(cases))
        left_out = [f"{name} ({counts[name]})" for name in MODALITIES if 0 < counts[name] < len(cases)]
        if not chosen:
            problems.add(f"no modality is there in all {len(cases)} cases; found {', '.join(left_out) or 'none'}")
        if not left_out:
            return chosen, []
        return chosen, [f"of {len(cases)} cases not all have {', '.join(left_out)}; read: {', '.join(chosen)}"]
    if not asked or len(set(asked)) != len(asked) or not set(asked) <= set(MODALITIES):
        raise InputError(f"modalities={list(asked)}: expected some of {', '.join(MODALITIES)}, each once")
    for case in cases:
        for name in asked:
            if name not in case.files:
                problems.add_passable(f"{case.name}: has no {name}; expected it, for modalities={list(asked)}")
    return tuple(asked), []


def patient_of(case: str) -> str:
    """Names from 2023 on end with the number of the visit, and a patient may have several; others are the patient."""
    visit = _VISIT.fullmatch(case)
    return visit[1] if visit else case
