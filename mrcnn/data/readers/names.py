"""Names in one form: of Unicode, blanks, numbers, and of the values that say that none is known."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, 0xFEFF])
"""Characters without a width that text copied from a page or a table may bring; `str.translate` drops them."""
_MISSING = frozenset({"na", "nan", "nat", "nil", "none", "null", "missing", "notavailable", "undefined", "unknown"})
_PATIENT_FIELDS = ("patientid", "patient", "subjectid", "subject")
_MARKS = re.compile(r"[\W_]+")


def normalize_text(value: Any) -> str | None:
    """Return text in Unicode's composed form (NFC) with single blanks between words; None for a missing value.

    A whole number is the same as integer and as float.

    Raises:
        ValueError: neither text nor a number.
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
    """Return a patient's identifier in the one form that all readers compare; None where the value names nobody.

    Blanks, invisible characters, full-width letters and Unicode's composed and decomposed forms make no difference,
    nor do 3, 3.0, "3" and "3.0". Letter case and leading zeros stay. Nobody: blank, NaN, None, n/a, -, unknown, …

    Raises:
        ValueError: neither text nor a number.
    """
    text = normalize_text(value)
    if text is None:
        return None
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    if _MARKS.sub("", text.casefold()) in _MISSING | {""}:
        return None
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def find_patient(fields: Mapping[str, Any]) -> Any:
    """Return the value of the field that names the patient, such as `patient_id` or `Patient ID`; None without one."""
    values = {_MARKS.sub("", str(name)).casefold(): value for name, value in fields.items()}
    for name in _PATIENT_FIELDS:
        value = values.get(name)
        # `patient_id` is meant for this; under the other names may stand anything, such as an object of age and sex.
        if name == "patientid" or isinstance(value, str | int | float):
            if value not in (None, ""):
                return value
    return None


def look_alike(name: str) -> tuple[str, ...]:
    """Return what stays of a name without letter case, leading zeros, blanks and marks: `P-03` and `p 3` are alike."""
    words = re.findall(r"\d+|[^\W\d_]+", name.casefold())
    return tuple(word.lstrip("0") or "0" if word.isdigit() else word for word in words)


def valid_unicode(text: str) -> str:
    """Text with halves of characters, which no file can hold, as their numbers."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
