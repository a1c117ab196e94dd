"""What stands in a folder of predictions, so that the same command again goes on where the last one ended.

`record.json` says with what model and options they were made; `done.jsonl` gets a line an item when all that is written
for it stands in its place. A process that is killed leaves at most a hidden file that begins with `.part-`, and a line
cut short, which does not count.
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
    """An item that is complete: its name, kind and source, the digest of its content, and the files by form."""

    name: str
    kind: str
    source: str
    sha256: str
    files: Mapping[str, str]


class ProgressRecord:
    """The record of a folder, which it makes where there is none.

    Args:
        folder: of the predictions.
        about: what decides them: the model's digest, the options. As plain data.
        overwrite: whether a record of something else, and all that it lists, is removed first.

    Raises:
        InputError: the folder holds something else, or predictions made otherwise, and `overwrite` is not set.
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
                f"{folder}: holds predictions with {key}={before.get(key)}, these have {key}={self.about.get(key)}; "
                "expected another --output, or --overwrite true"
            )
        folder.mkdir(parents=True, exist_ok=True)
        if before is None:
            self.write(RECORD, json_text(self.about))
        self.done = {each.name: each for each in self._read_done() if (folder / each.files["json"]).is_file()}

    def is_done(self, name: str, sha256: str, forms: frozenset[str]) -> bool:
        """Whether an item of that content is complete, with all these forms, and its files are there."""
        done = self.done.get(name)
        return (
            done is not None
            and done.sha256 == sha256
            and forms <= done.files.keys()
            and all((self.folder / done.files[form]).is_file() for form in forms)
        )

    def add(self, done: Done) -> None:
        """Notes that an item is complete."""
        self.done[done.name] = done
        with (self.folder / DONE).open("a", encoding="utf-8") as file:
            file.write(json_text(asdict(done), indent=None) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self, name: str) -> None:
        """Takes an item out of the record, and its files off the disk."""
        for relative in self.done.pop(name).files.values():
            (self.folder / relative).unlink(missing_ok=True)
        self.write(DONE, "".join(json_text(asdict(each), indent=None) + "\n" for each in self.done.values()))

    @contextmanager
    def place(self, relative: str) -> Iterator[Path]:
        """Where to write a file of the folder: under another name, which becomes its own when the body is through."""
        path = self.folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(_PART + path.name)
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def write(self, relative: str, text: str) -> None:
        with self.place(relative) as path:
            path.write_text(text, encoding="utf-8")

    def _read_record(self) -> dict[str, Any] | None:
        path = self.folder / RECORD
        if not self.folder.exists():
            return None
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; expected a folder, or a name that is free")
        if not path.exists():
            if any(not each.name.startswith(_PART) for each in self.folder.iterdir()):
                raise InputError(f"{self.folder}: holds other files; expected a new folder, or one of this command")
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
        if not text.endswith("\n") and text:  # cut short; what is added must begin a line of its own
            text = text[: text.rfind("\n") + 1]
            self.write(DONE, text)
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                yield Done(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise InputError(f"{path}: line {number}: expected an item as this command notes it") from error

    def _remove(self) -> None:
        """The files that the record lists, and no other; the record last."""
        root = self.folder.resolve()
        for done in self._read_done():
            for relative in done.files.values():
                path = (root / relative).resolve()
                if path.is_relative_to(root):
                    path.unlink(missing_ok=True)
        for name in (DONE, RECORD):
            (self.folder / name).unlink(missing_ok=True)
