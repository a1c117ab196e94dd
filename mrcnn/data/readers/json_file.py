"""JSON files as annotation tools write them, and as they must not be."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from mrcnn.data.file_listing import files_below
from mrcnn.data.names import whole_characters
from mrcnn.errors import InputError


def json_files(folder: Path, pattern: str) -> list[Path]:
    """The files that match, by name; what is no file of its own, such as a folder or a pipe, is passed over."""
    return sorted(files_below(folder, pattern))


def read_bytes(file: Path) -> bytes:
    """Raises `InputError` where the file cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def load_json(file: Path) -> Any:
    """What the file holds. Raises `InputError` where it cannot be read or is no JSON that could be annotations."""
    content = read_bytes(file)
    if not content.strip():
        raise InputError(f"{file}: is empty ({len(content)} bytes); expected annotations as JSON")
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error})") from error
    except RecursionError as error:
        raise InputError(f"{file}: not a JSON file of annotations (nested too deep)") from error


def is_plain_text(value: Any) -> bool:
    """Whether a value is text that is not blank and that every file can hold; JSON may bring halves of characters."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and whole_characters(value) == value


def whole_number(value: Any) -> int | None:
    """Return the integer that a JSON value stands for, also as 128.0 or "128"; None where it stands for none."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([+-]?\d{1,300})(?:\.0*)?\s*", value)
        return int(found[1]) if found else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if type(value) is int else None


def real_number(value: Any) -> float | int | None:
    """Return the finite number that a JSON value stands for, also as text; None where it stands for none."""
    if isinstance(value, str):
        if not re.fullmatch(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", value, re.ASCII):
            return None
        value = float(value)
    if type(value) is int:
        return value
    return value if isinstance(value, float) and math.isfinite(value) else None


def truth(value: Any) -> bool:
    """Return whether a JSON flag is set, as true, 1 or text of either; a missing one is not.

    Raises:
        ValueError: it is neither.
    """
    if value is None or value == "":
        return False
    word = str(value).strip().lower()
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if isinstance(value, bool | int | float | str) and word in known:
        return known[word]
    raise ValueError(f"{value!r}; expected 0 or 1")
