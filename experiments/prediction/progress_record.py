"""Record the completed items in the output folder, so that the same command resumes after an interruption.

`record.json` contains the model and the options; `done.jsonl` gets a line for each completed item.
A killed process leaves at most a hidden file `.part-…` and an incomplete last line, which is ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mrcnn.errors import InputError
from trackers.runs.serialization import json_text

RECORD, DONE = "record.json", "done.jsonl"
_PART = ".part-"


@dataclass(frozen=True)
class Done:
    """A completed item: its name, kind and source, the digest of its content, and its files by format."""

    name: str
    kind: str
    source: str
    sha256: str
    files: Mapping[str, str]


class ProgressRecord:
    """The record of an output folder; creates the folder.

    Args:
        folder: the output folder.
        about: model digest and options, serializable as JSON.
        overwrite: remove predictions of another model or other options first.

    Raises:
        InputError: the folder contains other files, or predictions of another model or other options without
            `overwrite`.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder, self.about = folder, dict(about)
        before = self._read_record()
        nothing_done = before is not None and before != self.about and not any(self._read_done())
        if before is not None and (overwrite or nothing_done):
            self._remove()
            before = None
        if before is not None and before != self.about:
            key = next(key for key in {**before, **self.about} if before.get(key) != self.about.get(key))
            raise InputError(
                f"{folder}: contains predictions with {key}={before.get(key)}, these have {key}={self.about.get(key)}; "
                "expected another --output, or --overwrite true"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if before is None:
            self.write(RECORD, json_text(self.about))
        self.done = {each.name: each for each in self._read_done() if (folder / each.files["json"]).is_file()}

    def is_done(self, name: str, sha256: str, formats: frozenset[str]) -> bool:
        """Return True if the item was completed with this content and these formats, and its files exist."""
        done = self.done.get(name)
        return (
            done is not None
            and done.sha256 == sha256
            and formats <= done.files.keys()
            and all((self.folder / done.files[name]).is_file() for name in formats)
        )

    def add(self, done: Done) -> None:
        """Record a completed item."""
        self.done[done.name] = done
        with (self.folder / DONE).open("a", encoding="utf-8") as file:
            file.write(json_text(asdict(done), indent=None) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self, name: str) -> None:
        """Remove an item from the record and delete its files."""
        for relative in self.done.pop(name).files.values():
            (self.folder / relative).unlink(missing_ok=True)
        self.write(DONE, "".join(json_text(asdict(each), indent=None) + "\n" for each in self.done.values()))

    @contextmanager
    def atomic_path(self, relative: str) -> Iterator[Path]:
        """Yield a temporary path for a file of the folder; the file gets its name when the `with` block succeeds."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(_PART + path.name)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def write(self, relative: str, text: str) -> None:
        with self.atomic_path(relative) as path:
            path.write_text(text, encoding="utf-8")

    def _read_record(self) -> dict[str, Any] | None:
        path = self.folder / RECORD
        if not self.folder.exists():
            return None
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; expected a folder or a new name")
        if not path.exists():
            if any(not each.name.startswith(_PART) for each in self.folder.iterdir()):
                raise InputError(f"{self.folder}: contains other files; expected a new folder, or one of this command")
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: expected the record of this command, as JSON ({error})") from error
        if not isinstance(found, dict):
            raise InputError(f"{path}: expected the record of this command, a JSON object")
        return found

    def _read_done(self) -> Iterator[Done]:
        path = self.folder / DONE
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        if not text.endswith("\n") and text:  # an incomplete line; the next one must start on a new line
            text = text[: text.rfind("\n") + 1]
            self.write(DONE, text)
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                yield Done(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: line {number}: expected an item in the format of this command") from error

    def _remove(self) -> None:
        """Delete only the files in the record, then the record."""
        root = self.folder.resolve()
        for done in self._read_done():
            for relative in done.files.values():
                path = (root / relative).resolve()
                if path.is_relative_to(root):
                    path.unlink(missing_ok=True)
        for name in (DONE, RECORD):
            (self.folder / name).unlink(missing_ok=True)
