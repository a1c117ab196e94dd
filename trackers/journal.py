"""What could not be logged yet, kept on disk in order until it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrcnn.errors import InputError
from trackers.kept_states import NotKept, to_disk

LINES, DELIVERED, FILES, STORE = "journal.jsonl", "delivered.json", "files", "store.json"
SEQ, NAME = "seq", "name"
"""Of each record its number, and of one with a file that one's name."""


class DamagedJournal(InputError):
    """A line before the last one is not what was written."""


class Journal:
    """Records in a folder, each a line of JSON with its number, beside copies of the files that belong to them.

    A record is durable when `append` returns: its file first, then its line. What a process that was killed left of a
    last line is dropped, for its `append` has not returned. `delivered` moves a mark, which is replaced as a whole. One
    process at a time may use it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pending(self) -> list[dict[str, Any]]:
        """Records that have not been delivered, in order.

        Raises:
            DamagedJournal: one cannot be read.
        """
        done = self._delivered()
        return [record for record in self._records() if record[SEQ] > done]

    def append(self, record: Mapping[str, Any], path: Path | None = None) -> dict[str, Any]:
        """Keeps a record of plain data, and a copy of the file or folder that it is about; returns it numbered.

        Raises:
            NotKept: the disk is full or refuses; the records before are whole.
        """
        with self._disk_refusals():
            return self._append(record, path)

    @contextmanager
    def _disk_refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotKept(
                f"{self.folder}: what the tracking server did not take cannot be kept ({error.strerror or error})"
            ) from error

    def _append(self, record: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        records = self._records()
        numbered = {SEQ: len(records) + 1, **record}
        if path is not None:
            numbered[NAME] = path.name
            place = self.folder / FILES / str(numbered[SEQ])
            # Of an append that did not return.
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            copy = place / path.name
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
            for each in (copy, *copy.rglob("*"), place, place.parent):
                to_disk(each)
        line = json.dumps(numbered, ensure_ascii=False, allow_nan=False) + "\n"
        whole = self._whole_bytes()
        with open(self.folder / LINES, "ab") as file:
            file.truncate(whole)
            try:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
        to_disk(self.folder)
        return numbered

    def path(self, record: Mapping[str, Any]) -> Path | None:
        """The copy of the file or folder that a record is about; None where it is about none."""
        return self.folder / FILES / str(record[SEQ]) / record[NAME] if NAME in record else None

    def delivered(self, record: Mapping[str, Any]) -> None:
        """Notes that this record and those before it are where they belong, and lets go of its file."""
        with self._disk_refusals():
            self._replace(DELIVERED, {SEQ: record[SEQ]})
        shutil.rmtree(self.folder / FILES / str(record[SEQ]), ignore_errors=True)

    def name_store(self, store: str) -> None:
        """Keeps the address, which holds no password, of the store that the records are for."""
        with self._disk_refusals():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(STORE, {"store": store})

    def store(self) -> str:
        """Raises `DamagedJournal` where that cannot be read."""
        try:
            return json.loads((self.folder / STORE).read_text(encoding="utf-8"))["store"]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedJournal(f"{self.folder / STORE}: expected the store's address") from error

    def _replace(self, name: str, value: Mapping[str, Any]) -> None:
        draft = self.folder / f"{name}.new"
        draft.write_text(json.dumps(value), encoding="utf-8")
        to_disk(draft)
        os.replace(draft, self.folder / name)
        to_disk(self.folder)

    def _delivered(self) -> int:
        try:
            return json.loads((self.folder / DELIVERED).read_text(encoding="utf-8"))[SEQ]
        except FileNotFoundError:
            return 0

    def _whole_bytes(self) -> int:
        """Up to where the journal's lines are whole."""
        path = self.folder / LINES
        return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0

    def _records(self) -> list[dict[str, Any]]:
        path = self.folder / LINES
        if not path.exists():
            return []
        *lines, _ = path.read_bytes().split(b"\n")
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                damaged = record[SEQ] != number
            except (ValueError, KeyError, TypeError):
                damaged = True
            if damaged:
                raise DamagedJournal(f"{path}: line {number} is not what was written")
            records.append(record)
        return records
