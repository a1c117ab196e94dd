"""What files hold, as a number to know them by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mrcnn.errors import InputError


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes. Raises `InputError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 (hex) over the bytes of several files, in their order."""
    return hashlib.sha256("".join(file_digest(path) for path in files).encode()).hexdigest()
