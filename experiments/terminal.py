"""Print the lines, phases and warnings of a command."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from trackers.runs.writer import Run

SECONDS_BETWEEN_LINES = 10
"""Seconds between two lines of progress in a log file."""


_NAME = re.compile(r" +(\S+ )*\S+ {2,}| +")
"""Beginning of an indented line: a name with the space after it, or the indentation alone."""


class Terminal(Console):
    """Console that breaks lines of text between words on a terminal, and not at all in a log file.

    The rest of an indented line is aligned with its text.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, **settings)

    def print(self, *objects: Any, **options: Any) -> None:
        if all(isinstance(each, str) for each in objects):
            options = {"soft_wrap": not self.is_terminal, **options}
            if self.is_terminal and len(objects) == 1 and (name := _NAME.match(objects[0])) and "\n" not in objects[0]:
                indent = " " * name.end()
                objects = (textwrap.fill(objects[0], self.width, subsequent_indent=indent, break_on_hyphens=False),)
        super().print(*objects, **options)


def warn(console: Console, message: str) -> None:
    """Print a warning in yellow."""
    console.print(f"warning: {message}", style="yellow", markup=False)


def print_addresses(console: Console, run: Run, folders: Iterable[Path] = ()) -> None:
    """Print where the report of a run lies on this machine, by default in its own folders, and how MLflow shows it."""
    for folder in folders or run.folders:
        if (page := folder / "report.html").is_file():
            console.print(f"Report:  {page} (open it in a browser)", markup=False, soft_wrap=True)
    console.print(f"MLflow:  {run.how_to_open()}\n         {run.url()}", markup=False, soft_wrap=True)


@contextmanager
def phase(console: Console, text: str) -> Iterator[Callable[[str], None]]:
    """Show that work of some seconds goes on: a spinner on a terminal, a line in a log file.

    Yields:
        A function that changes the text; in a log file a new text is a line, at most every ten seconds.
    """
    if console.is_terminal:
        with console.status(text) as status:
            yield status.update
        return
    console.print(text, markup=False)
    shown, last = text, time.monotonic()

    def change(new: str) -> None:
        nonlocal shown, last
        if new != shown and (now := time.monotonic()) - last >= SECONDS_BETWEEN_LINES:
            shown, last = new, now
            console.print(new, markup=False)

    yield change


@contextmanager
def count_progress(console: Console, text: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how much of `total` is done: a bar on a terminal, a line every ten seconds in a log file.

    Yields:
        A function to call after each item, from any thread.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task, done, last = bar.add_task(text, total=total), 0, time.monotonic()
        if not console.is_terminal:
            console.print(f"{text}: {total}", markup=False)

        def advance() -> None:
            nonlocal done, last
            done += 1
            bar.advance(task)
            if not console.is_terminal and (now := time.monotonic()) - last >= SECONDS_BETWEEN_LINES:
                last = now
                console.print(f"{text}: {done} of {total}", markup=False)

        yield advance
