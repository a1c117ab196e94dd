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
from trackers.checkpoints.checkpoint_store import CheckpointNotSaved, to_disk

LINES, DELIVERED, FILES, STORE = "journal.jsonl", "delivered.json", "files", "store.json"
SEQ, NAME = "seq", "name"
"""Of each record its number, and of one with a file that one's name."""


class DamagedQueue(InputError):
    """A line before the last one is not what was written."""


class RecordQueue:
    """Records in a folder, each a line of JSON with its number, beside copies of the files that belong to them.

    A record is durable when `append` returns: its file first, then its line. What a process that was killed left of a
    last line is dropped, for its `append` has not returned. `delivered` moves a mark, which is replaced as a whole, and
    empties the file of lines where the mark is at the last one; numbers go on from the mark. One process at a time may
    use it. Lines are parsed once: `append` and `waiting` read only what has been added since the last call.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = (0, 0)
        """Number of the last whole line that has been read, and the length of the file up to its end."""

    def pending(self) -> list[dict[str, Any]]:
        """Read the records that have not been delivered, in order.

        Raises:
            DamagedJournal: one cannot be read.
        """
        done = self._delivered()
        self._known = (0, 0)
        return [record for record in self._read_on() if record[SEQ] > done]

    def waiting(self) -> int:
        """Count the records that have not been delivered. Raises `DamagedQueue`."""
        for _ in self._read_on():
            pass
        return max(0, self._known[0] - self._delivered())

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
            raise CheckpointNotSaved(
                f"{self.folder}: what the tracking server did not take cannot be kept ({error.strerror or error})"
            ) from error

    def _append(self, record: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.waiting()
        number, whole = self._known
        numbered = {SEQ: max(number, self._delivered()) + 1, **record}
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
        with open(self.folder / LINES, "ab") as file:
            # Of a line that was torn, or of one that the disk has just refused.
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
        """Note that this record and those before it are where they belong, and remove its file."""
        with self._disk_refusals():
            self._replace(DELIVERED, {SEQ: record[SEQ]})
            if not self.waiting():
                os.truncate(self.folder / LINES, 0)
        shutil.rmtree(self.folder / FILES / str(record[SEQ]), ignore_errors=True)

    def name_store(self, store: str) -> None:
        """Keeps the address, which holds no password, of the store that the records are for."""
        with self._disk_refusals():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(STORE, {"store": store})

    def store(self) -> str:
        """Raises `DamagedQueue` where that cannot be read."""
        try:
            return json.loads((self.folder / STORE).read_text(encoding="utf-8"))["store"]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedQueue(f"{self.folder / STORE}: expected the store's address") from error

    def _replace(self, name: str, value: Mapping[str, Any]) -> None:
        draft = self.folder / f"{name}.new"
        draft.write_text(json.dumps(value), encoding="utf-8")
        to_disk(draft)
        os.replace(draft, self.folder / name)
        to_disk(self.folder)

    def _delivered(self) -> int:
        path = self.folder / DELIVERED
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))[SEQ])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedQueue(f"{path}: expected the number of the last record that was delivered") from error

    def _read_on(self) -> Iterator[dict[str, Any]]:
        """Read the whole lines after those that are known. What was written decides, so that a Ctrl-C right after a
        line was written leaves none out."""
        path = self.folder / LINES
        size = path.stat().st_size if path.exists() else 0
        if size < self._known[1]:
            self._known = (0, 0)
        if size == self._known[1]:
            return
        with open(path, "rb") as file:
            file.seek(self._known[1])
            *lines, _ = file.read().split(b"\n")
        for line in lines:
            number, offset = self._known
            try:
                record = json.loads(line)
                # The first line may follow the mark of an earlier time, when the file was emptied.
                damaged = record[SEQ] not in ((number + 1,) if offset else range(1, self._delivered() + 2))
            except (ValueError, KeyError, TypeError):
                damaged = True
            if damaged:
                place = path.read_bytes()[:offset].count(b"\n") + 1
                raise DamagedQueue(f"{path}: line {place} is not what was written")
            self._known = (record[SEQ], offset + len(line) + 1)
            yield record
