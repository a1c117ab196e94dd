"""Build the records of a data set: patients from annotations, file names or image files, then their instances."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.names import normalize_patient_id, similarity_key, source_name
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.segmentation import boxes_and_areas
from mrcnn.errors import InputError


def name_patients(
    stated: Sequence[Any],
    file_names: Sequence[str],
    pattern: str | None,
    problems: Problems,
    *,
    in_files: Sequence[str | None] | None = None,
) -> tuple[list[str], list[str]]:
    """Determine the patient of each image, and return warnings.

    Identifiers that differ only in letter case count as one patient, with a warning. An image without any patient is
    its own patient, except that augmented copies by Roboflow of one image share one.

    Args:
        stated: patient of each image in the annotations, or None; see `normalize_patient_id`.
        file_names: one per image.
        pattern: regular expression searched in the file name of an image without a stated patient; its first group, or
            the whole match without a group, is the patient. An empty group, as in `---([0-9]+)-|$`, means no patient.
        problems: collects file names that the pattern does not match, and identifiers that are neither text nor number.
        in_files: patient in each image file, or None; has the lowest priority, because all exports of a clinic may
            carry the same placeholder.

    Raises:
        InputError: the pattern is not a regular expression.
    """
    expression = _compile(pattern)
    patients: list[str] = []
    named: set[str] = set()
    guessed = 0
    for value, file_name, in_file in zip(stated, file_names, in_files or [None] * len(stated), strict=True):
        try:
            patient = normalize_patient_id(value)
        except ValueError as error:
            problems.add(f"{file_name}: patient_id {error}")
            patient = None
        if patient is None and expression is not None:
            match = expression.search(file_name)
            patient = normalize_patient_id(match.group(min(1, expression.groups))) if match else None
            if match is None:
                problems.add(f"{file_name}: no patient found by patient_pattern {pattern!r}")
        if patient is not None:
            named.add(patient)
        guessed += not (patient or in_file)
        patients.append(patient or in_file or source_name(file_name))
    spelled, warnings = _one_spelling(named)
    if guessed:
        warnings.insert(
            0,
            f"{guessed} of {len(patients)} images name no patient, so each counts as a patient of its own; set "
            "patient_pattern or patient_id if one patient has several images",
        )
    return [spelled.get(patient, patient) for patient in patients], warnings


def _one_spelling(patients: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Map each patient to one spelling for all letter cases, and return warnings."""
    spelled, warnings = {}, []
    same = _alike(sorted(patients), str.casefold)
    for names in same:
        spelled |= dict.fromkeys(names, names[0])
    several = [" = ".join(names) for names in same if len(names) > 1]
    warnings += name_warnings("patients are spelled in several letter cases and count as one each", several)
    similar = _alike(sorted(spelled.values()), similarity_key)
    doubtful = [" and ".join(names) for names in similar if len(names) > 1]
    warnings += name_warnings(
        "groups of patients differ in blanks, marks or leading zeros alone; they stay apart", doubtful
    )
    return spelled, warnings


def _alike(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    groups = defaultdict(list)
    for name in dict.fromkeys(names):
        groups[key(name)].append(name)
    return list(groups.values())


def add_patient(row: dict[str, Any], patient: str) -> dict[str, Any]:
    """Complete the fields of a `Record` with the patient; `row["patient_id"]` is the pseudonym in the file or None."""
    return row | {"patient_id": patient, "pseudonymous": patient == row["patient_id"]}


def _compile(pattern: str | None) -> re.Pattern | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"patient_pattern={pattern!r}: not a regular expression ({error})") from error


def assemble_dataset(
    class_names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    owners: Sequence[int],
    class_ids: Sequence[int],
    runs: Sequence[bytes],
    wheres: Sequence[str],
    warnings: Sequence[str],
    problems: Problems,
    crowds: Sequence[tuple[int, int, bytes]] = (),
) -> Dataset:
    """Build a data set from images and instances; leave out instances without pixels, with a warning.

    Args:
        class_names: names of the classes.
        rows: fields of the `Record` of each image, except those of its instances.
        owners: index into `rows` of the image of each instance.
        class_ids: class of each instance, 1-based.
        runs: COCO run-length string of each instance.
        wheres: name of each instance in messages.
        warnings: become `Dataset.warnings`, with those found here.
        problems: becomes `Dataset.problems`.
        crowds: index into `rows`, class id and run-length string of each crowd region.
    """
    warnings = [*warnings, *_differing_in_case(class_names)]
    row_of, classes = np.asarray(owners, np.int64), np.asarray(class_ids, np.int32)
    boxes, areas = boxes_and_areas(list(runs), [(rows[owner]["height"], rows[owner]["width"]) for owner in owners])
    # A polygon may cover no pixel center; such an instance can be neither learned nor detected.
    empty = [where for where, area in zip(wheres, areas, strict=True) if not area]
    warnings += name_warnings("annotations without any pixel are left out", empty)
    seen, twice = set(), []
    for where, drawn in zip(wheres, zip(owners, runs, strict=True), strict=True):
        twice += [where] if drawn in seen else []
        seen.add(drawn)
    warnings += name_warnings("annotations are drawn twice, another of their image has the same mask", twice)
    order = np.argsort(row_of, kind="stable")
    order = order[areas[order] > 0]
    by_image = np.split(order, np.searchsorted(row_of[order], np.arange(1, len(rows))))
    crowd_ids: list[list[int]] = [[] for _ in rows]
    crowd_runs: list[list[bytes]] = [[] for _ in rows]
    for owner, class_id, region in crowds:
        crowd_ids[owner].append(class_id)
        crowd_runs[owner].append(region)
    records = [
        Record(**row, class_ids=classes[mine], boxes=boxes[mine], areas=areas[mine], crowd_ids=tuple(crowd))
        for row, mine, crowd in zip(rows, by_image, crowd_ids, strict=True)
    ]
    return Dataset(
        class_names,
        records,
        [[runs[index] for index in mine] for mine in by_image],
        warnings,
        problems,
        crowds=crowd_runs,
    )


def _differing_in_case(class_names: Sequence[str]) -> list[str]:
    return [
        f"the classes {' and '.join(map(repr, names))} differ in letter case alone and stay separate "
        "classes; rename them in the annotations if they mean the same"
        for names in _alike(class_names, str.casefold)
        if len(names) > 1
    ]
