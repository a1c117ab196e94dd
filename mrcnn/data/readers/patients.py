"""Whom an image shows: as its annotations say, its file name or the file itself."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import PurePath
from typing import Any

from mrcnn.data.readers.names import look_alike, normalize_patient_id
from mrcnn.data.readers.problems import Problems, summarize_names
from mrcnn.errors import InputError

_ROBOFLOW_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+")
"""The name of an image that Roboflow exported; the augmented copies of one have its name, and a mark of their own."""


def name_patients(
    stated: Sequence[Any],
    file_names: Sequence[str],
    pattern: str | None,
    problems: Problems,
    *,
    in_files: Sequence[str | None] | None = None,
) -> tuple[list[str], list[str]]:
    """A patient for each image, and warnings.

    Args:
        stated: what the annotations say of each image, None where they say nothing; see `normalize_patient_id`.
        file_names: one an image.
        pattern: searched in the file name of an image without a stated patient; its first group, or the whole match
            when it has no group, is the patient. Where the group is empty, as `---([0-9]+)-|$` allows, the name tells
            no patient.
        in_files: what the image files themselves say, used where nothing else tells; all of a clinic's exports may
            carry the same made-up patient, so a pattern comes first. An image without any patient is its own, but
            copies of one image that Roboflow augmented are one.

    Identifiers that differ in letter case alone are one patient, of which a warning tells.

    Raises:
        InputError: the pattern is no regular expression. A file name that it does not match goes to `problems`, and so
            does a stated patient that is neither text nor a number.
    """
    expression = _compile(pattern)
    patients, named, guessed = [], set(), 0
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
        named |= {patient} - {None}
        guessed += not (patient or in_file)
        patients.append(patient or in_file or _source(file_name))
    spelled, warnings = _one_spelling(named)
    if guessed:
        warnings.insert(
            0,
            f"{guessed} of {len(patients)} images name no patient, so each counts as a patient of its own; set "
            "patient_pattern or patient_id if one patient has several images",
        )
    return [spelled.get(patient, patient) for patient in patients], warnings


def _source(file_name: str) -> str:
    copy = _ROBOFLOW_COPY.fullmatch(PurePath(file_name).name)
    return copy[1] if copy else file_name


def _one_spelling(patients: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """For each of several patients the identifier that stands for all that differ in letter case, and warnings."""
    spelled, warnings = {}, []
    same = _alike(patients, str.casefold)
    for names in same:
        spelled |= dict.fromkeys(names, names[0])
    if several := [" = ".join(names) for names in same if len(names) > 1]:
        warnings.append(summarize_names("patients are spelled in several letter cases and count as one each", several))
    if doubtful := [" and ".join(names) for names in _alike(spelled.values(), look_alike) if len(names) > 1]:
        warnings.append(
            summarize_names(
                "groups of patients differ in blanks, marks or leading zeros alone; they stay apart", doubtful
            )
        )
    return spelled, warnings


def _alike(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    groups = defaultdict(list)
    for name in sorted(set(names)):
        groups[key(name)].append(name)
    return list(groups.values())


def add_patient(row: dict[str, Any], patient: str) -> dict[str, Any]:
    """What `Record` holds of an image, of which `row` knows only whom its file names, a pseudonym or None."""
    return row | {"patient_id": patient, "pseudonymous": patient == row["patient_id"]}


def _compile(pattern: str | None) -> re.Pattern | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"patient_pattern={pattern!r}: not a regular expression ({error})") from error
