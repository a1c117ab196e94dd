"""Prepare the parts of a report that only an external evaluation has, and the pictures of errors that every report has.

The source is `evaluation.json` of `mrcnn evaluate`; see docs/how-to/evaluate.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from experiments.evaluation.tables import ROWS
from mrcnn.errors import counted

CASES = 20
"""Images listed, the lowest Dice first."""
ERRORS = {
    "false_positive": "False positives, the highest score first",
    "miss": "Missed instances, the largest first",
}


def external_parts(facts: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return what the template needs of an external evaluation; empty for a training, which has no `facts`."""
    if not facts:
        return {}
    words = "".join(f" --map {one}={other}" for one, other in facts["classes"]["mapping"] if one != other)
    words += " --class-agnostic" * (not facts["classes"]["mapping"])
    words += f" --subgroups {','.join(facts['subgroups'])}" * bool(facts["subgroups"])
    return {
        "introduction": introduction(facts),
        "shift": shift_rows(facts),
        "subgroups": list(subgroup_tables(facts, metric).values()),
        "images": image_rows(facts),
        "command": f"mrcnn evaluate {_file_name(facts['model']['address'])} {facts['data']['name']}{words}",
    }


def _file_name(address: str) -> str:
    """Return the name of a model file without its folders; other addresses are unchanged."""
    return address if address.startswith(("models:/", "runs:/")) else PurePath(address).name


def introduction(facts: Mapping[str, Any]) -> list[str]:
    """Describe the evaluated images: notes, excluded images, and how they differ from the training images."""
    sentences = [each["sentence"] for each in facts["shift"] if each["sentence"]]
    lines = [*facts["notes"], *(sentences or ["No difference from the training data was found."])]
    if recalibrated := facts.get("recalibration"):
        before = recalibrated["scores_before"]
        changes = ", ".join(
            f"{ROWS[name]} {before[name]:.3f} before and {facts['scores'][name]:.3f} after"
            for name in ("dice", "f1")
            if name in before and name in facts["scores"]
        )
        lines.append(
            f"The threshold was chosen anew on {counted(recalibrated['images'], 'image')} of "
            f"{counted(recalibrated['patients'], 'patient')} of this data set, not measured here: "
            f"{recalibrated['confidence']:g} in place of {recalibrated['confidence_before']:g}. "
            f"On the other images: {changes}. The model with it is version {recalibrated['version']}."
        )
    return lines


def shift_rows(facts: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return property, training data, evaluated data and verdict of each comparison."""
    return [
        (each["name"], each["training"], each["evaluated"], "differs" if each["sentence"] else "")
        for each in facts["shift"]
    ]


def subgroup_tables(facts: Mapping[str, Any], metric: str) -> dict[str, tuple[list[str], list[tuple[str, ...]]]]:
    """Return headings and rows of each attribute, the worst subgroup first."""
    names = [name for name in dict.fromkeys((metric, "mask_ap50", "dice", "precision", "recall")) if name in ROWS]
    tables = {}
    for attribute, subgroups in facts["subgroups"].items():
        rows = []
        for each in subgroups:
            cells = [_cell(each, name) for name in names]
            rows.append((each["value"], str(each["patients"]), str(each["images"]), *cells))
        tables[attribute] = ([attribute, "patients", "images", *(ROWS[name] for name in names)], rows)
    return tables


def _cell(subgroup: Mapping[str, Any], name: str) -> str:
    scores, intervals = subgroup["scores"], subgroup["intervals"]
    if name not in scores:
        return "–"
    ends = [f"{intervals[name + end]:.3f}" for end in ("_lo", "_hi") if name + end in intervals]
    return f"{scores[name]:.3f}" + (f"\n{' – '.join(ends)}" if ends else "")


def image_rows(facts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return number, patient, Dice and counts of the images with the lowest Dice."""
    defined = [each for each in facts["images"] if each["dice"] is not None]
    worst: Sequence[Mapping[str, Any]] = sorted(defined, key=lambda each: each["dice"])[:CASES]
    return [(str(each["image"]), str(each["patient"]), _number(each["dice"]), *_counts(each)) for each in worst]


def _counts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("instances", "true_positives", "misses", "false_positives"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def error_pictures(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """Return the pictures of each kind of error with their captions, in order of rank."""
    found = {}
    for kind, title in ERRORS.items():
        files = sorted(folder.glob(f"{kind}_*_case_*.png"))
        if files:
            numbers = [re.search(r"_case_(\d+)", file.stem) for file in files]
            found[title] = [
                (file, f"Case {number[1]}") for file, number in zip(files, numbers, strict=True) if number is not None
            ]
    return found
