"""JSON files as annotation tools write them, and as they must not be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mrcnn.errors import InputError


def json_files(folder: Path, pattern: str) -> list[Path]:
    """The files that match, by name; what is no file of its own, such as a folder or a pipe, is passed over."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


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


def whole_characters(text: str) -> str:
    """Text with halves of characters, which no file can hold, as their numbers."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
