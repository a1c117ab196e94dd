"""All that is wrong with an input, told at once."""

from __future__ import annotations

from pathlib import Path

from mrcnn.errors import InputError

_SHOWN = 20


class Problems:
    """Collects what is wrong with the file `path`, so that a person mends it in one go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        self._found.append(problem)

    def raise_if_any(self) -> None:
        """Raises one `InputError`: a first line with file and count, then a line for each of the first problems."""
        if not self._found:
            return
        count = len(self._found)
        lines = [f"{self.path}: {count} problem{'s' if count > 1 else ''}", *self._found[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"… and {count - _SHOWN} more")
        raise InputError("\n  ".join(lines))
