"""Normalize names and patient identifiers: Unicode form, spaces, numbers and missing values."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, 0xFEFF])
"""Zero-width characters, frequent in copied text; `str.translate` removes them."""
_MISSING = frozenset({"na", "nan", "nat", "nil", "none", "null", "missing", "notavailable", "undefined", "unknown"})
_PATIENT_FIELDS = ("patientid", "patient", "subjectid", "subject")
_MARKS = re.compile(r"[\W_]+")
_ROBOFLOW_COPY = re.compile(r"(.+)\.rf\.[0-9A-Za-z]{16,}\.\w+")
"""File name of a Roboflow export; augmented copies of an image differ only in the hash."""


def normalize_text(value: Any) -> str | None:
    """Normalize text to Unicode NFC with single spaces between words; None for a missing value.

    Integers and floats of the same value give the same text.

    Raises:
        ValueError: the value is neither text nor a number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r}; expected text or a number")
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value
    text = unicodedata.normalize("NFC", valid_unicode(str(value)).translate(_INVISIBLE))
    return " ".join(text.split()) or None


def normalize_patient_id(value: Any) -> str | None:
    """Normalize a patient identifier so that all readers compare the same form; None for a missing value.

    Spaces, zero-width characters, full-width letters and the Unicode form make no difference, nor do 3, 3.0, "3" and
    "3.0". Letter case and leading zeros are preserved. Missing values: empty, NaN, None, n/a, -, unknown, …

    Raises:
        ValueError: the value is neither text nor a number.
    """
    text = normalize_text(value)
    if text is None:
        return None
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    if _MARKS.sub("", text.casefold()) in _MISSING | {""}:
        return None
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def find_patient(fields: Mapping[str, Any]) -> Any:
    """Find the value of the patient field, such as `patient_id` or `Patient ID`; None without one."""
    values = {_MARKS.sub("", str(name)).casefold(): value for name, value in fields.items()}
    for name in _PATIENT_FIELDS:
        value = values.get(name)
        # Fields with the other names may hold something else, such as an object with age and sex.
        if (name == "patientid" or isinstance(value, str | int | float)) and value not in (None, ""):
            return value
    return None


def source_name(file_name: str) -> str:
    """Return the name of the image that a file is an augmented copy of, or the file name itself.

    It stands for the patient of an image that names none.
    """
    copy = _ROBOFLOW_COPY.fullmatch(PurePath(file_name).name)
    return copy[1] if copy else file_name


def similarity_key(name: str) -> tuple[str, ...]:
    """Return a key without letter case, leading zeros, spaces and punctuation: equal for `P-03` and `p 3`."""
    words = re.findall(r"\d+|[^\W\d_]+", name.casefold())
    return tuple(word.lstrip("0") or "0" if word.isdigit() else word for word in words)


def valid_unicode(text: str) -> str:
    """Escape lone surrogates, which no file can store."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
