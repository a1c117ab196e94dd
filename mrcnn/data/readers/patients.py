"""Whom an image shows, where only its file name can tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError


def name_patients(
    stated: Sequence[str | None],
    file_names: Sequence[str],
    pattern: str | None,
    problems: Problems,
    *,
    in_files: Sequence[str | None] | None = None,
) -> tuple[list[str], list[str]]:
    """A patient for each image, and warnings.

    Args:
        stated: what the annotations say of each image, None where they say nothing.
        file_names: one an image.
        pattern: searched in the file name of an image without a stated patient; its first group, or the whole match
            when it has no group, is the patient. Where the group is empty, as `---([0-9]+)-|$` allows, the name tells
            no patient.
        in_files: what the image files themselves say, used where nothing else tells; all of a clinic's exports may
            carry the same made-up patient, so a pattern comes first. An image without any patient is its own.

    Raises:
        InputError: the pattern is no regular expression. A file name that it does not match goes to `problems`.
    """
    expression = _compile(pattern)
    patients, guessed = [], 0
    for patient, file_name, in_file in zip(stated, file_names, in_files or [None] * len(stated), strict=True):
        if patient is None and expression is not None:
            match = expression.search(file_name)
            patient = match.group(min(1, expression.groups)) if match else None
            if match is None:
                problems.add(f"{file_name}: no patient found by patient_pattern {pattern!r}")
        patient = patient or in_file
        guessed += not patient
        patients.append(patient or file_name)
    if not guessed:
        return patients, []
    return patients, [
        f"{guessed} of {len(patients)} images name no patient, so each counts as a patient of its own; set "
        "patient_pattern or patient_id if one patient has several images"
    ]


def with_patient(row: dict[str, Any], patient: str) -> dict[str, Any]:
    """What `Record` holds of an image, of which `row` knows only whom its file names, a pseudonym or None."""
    return row | {"patient_id": patient, "pseudonymous": patient == row["patient_id"]}


def _compile(pattern: str | None) -> re.Pattern | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise InputError(f"patient_pattern={pattern!r}: not a regular expression ({error})") from error
