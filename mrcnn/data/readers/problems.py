"""All that is wrong with an input, told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrcnn.errors import InputError

_SHOWN = 20
_LONGEST = 600  # characters of a line; what is quoted from a damaged file may be a whole list


class DataError(InputError):
    """Several things are wrong with an input: the message shows the first of them, `problems` holds all."""

    def __init__(self, message: str, problems: tuple[str, ...]) -> None:
        super().__init__(message)
        self.problems = problems


@dataclass(frozen=True)
class Fault:
    """Something that is wrong.

    Attributes:
        problem: one line.
        image: the file of the image that it spoils, where that is among what was read; else None.
        passable: whether the rest is sound without it, or without that image.
    """

    problem: str
    image: Path | None = None
    passable: bool = True


class Problems:
    """Collects what is wrong with the file or folder `path`, so that a person mends it in one go."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.faults: list[Fault] = []

    def add(self, problem: str) -> None:
        """Something that all the rest depends on."""
        self.faults.append(Fault(one_line(problem), passable=False))

    def add_passable(self, problem: str, image: Path | None = None) -> None:
        """Something that the rest can do without, if `image` goes with it; see `Fault`."""
        self.faults.append(Fault(one_line(problem), image))

    def raise_if_any(self) -> None:
        """Raises one `DataError`: a first line with path and count, then a line for each of the first problems."""
        if not self.faults:
            return
        found = tuple(fault.problem for fault in self.faults)
        count = len(found)
        lines = [f"{self.path}: {count} problem{'s' if count > 1 else ''}", *found[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"… and {count - _SHOWN} more")
        raise DataError("\n  ".join(lines), found)

    def raise_if_impassable(self) -> None:
        """As `raise_if_any`, all of them, where one is not passable."""
        if not all(fault.passable for fault in self.faults):
            self.raise_if_any()


def one_line(text: str) -> str:
    """Text that can be written anywhere: JSON may bring halves of characters, line breaks, and lists without end."""
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in shown)


def summarize_names(count_of: str, names: Sequence[str]) -> str:
    """`<how many> <what>: <which>`, with the first of the names."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return one_line(f"{len(names)} {count_of}: {', '.join(name[:80] for name in names[:_SHOWN])}") + rest
