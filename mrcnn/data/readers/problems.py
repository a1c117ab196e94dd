"""All that is wrong with an input, told at once."""

from __future__ import annotations

from pathlib import Path

from mrcnn.errors import InputError

_SHOWN = 20


class DataError(InputError):
    """Several things are wrong with an input: the message shows the first of them, `problems` holds all."""

    def __init__(self, message: str, problems: tuple[str, ...]) -> None:
        super().__init__(message)
        self.problems = problems


class Problems:
    """Collects what is wrong with the file or folder `path`, so that a person mends it in one go."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._found: list[str] = []

    def add(self, problem: str) -> None:
        self._found.append(problem)

    def raise_if_any(self) -> None:
        """Raises one `DataError`: a first line with path and count, then a line for each of the first problems."""
        if not self._found:
            return
        count = len(self._found)
        lines = [f"{self.path}: {count} problem{'s' if count > 1 else ''}", *self._found[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"… and {count - _SHOWN} more")
        raise DataError("\n  ".join(lines), tuple(self._found))
