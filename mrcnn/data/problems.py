"""Collect all problems of an input and report them in one error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrcnn.errors import InputError, counted

_SHOWN = 20
_EXAMPLES = 3
"""Names in a warning; a problem, which has to be corrected, is listed with its own line."""
_NAMES = re.compile(r"""'[^']*'|"[^"]*"|\S*\d\S*|\S+\.[A-Za-z]{2,5}\b""")  # quoted, with a digit, or a file
_LONGEST = 600  # characters of a line; a quoted value of a damaged file may be a long list


class DataError(InputError):
    """Report several problems of an input: the message lists the first ones, `problems` all."""

    def __init__(self, message: str, problems: tuple[str, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Fault:
    """Describe one problem.

    Attributes:
        problem: message of one line.
        image: file of the affected image, or None if no image that was read is affected.
        skippable: whether the remaining data are valid without `image`.
    """

    problem: str
    image: Path | None = None
    skippable: bool = True


class Problems:
    """Collect the problems of the file or folder `path`, so that the user sees all of them at once."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.faults: list[Fault] = []

    def add(self, problem: str) -> None:
        """Add a fatal problem."""
        self.faults.append(Fault(to_single_line(problem), skippable=False))

    def add_skippable(self, problem: str, image: Path | None = None) -> None:
        """Add a problem that leaves the remaining data valid if `image` is skipped; see `Fault`."""
        self.faults.append(Fault(to_single_line(problem), image))

    def raise_if_any(self) -> None:
        """Raise a `DataError` with path and count in the first line, then one line for each of the first problems."""
        if not self.faults:
            return
        found = tuple(fault.problem for fault in self.faults)
        count = len(found)
        lines = [f"{self.path}: {counted(count, 'problem')}", *found[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"… and {count - _SHOWN} more")
        raise DataError("\n  ".join(lines), found)

    def raise_if_fatal(self) -> None:
        """Raise a `DataError` of all problems if one of them is fatal."""
        if not all(fault.skippable for fault in self.faults):
            self.raise_if_any()


def to_single_line(text: str) -> str:
    """Shorten text and escape line breaks, lone surrogates and other unprintable characters."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def group_similar(problems: Sequence[str]) -> list[str]:
    """Return the first of the problems that differ only in names and numbers, with the number of the others.

    Example:
        >>> group_similar(["a1.png: cannot be read", "b2.png: cannot be read", "no class"])
        ['a1.png: cannot be read (and 1 more of this kind)', 'no class']
    """
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(_NAMES.sub("…", problem), []).append(problem)
    return [first + (f" (and {len(others)} more of this kind)" if others else "") for first, *others in kinds.values()]


def name_warnings(text: str, names: Sequence[str]) -> list[str]:
    """Return the line of `summarize_names`, or none without names."""
    return [summarize_names(text, names)] if names else []


def summarize_names(text: str, names: Sequence[str]) -> str:
    """Format a count with examples: `<number of names> <text>: <first names> and <number> more`.

    A single name stands without the count, which the plural of `text` would not fit.
    """
    count = f"{len(names)} " if len(names) > 1 else ""
    rest = f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
    return to_single_line(f"{count}{text}: {', '.join(name[:80] for name in names[:_EXAMPLES])}") + rest
