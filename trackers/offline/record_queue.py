"""Queue records on disk until they can be logged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrcnn.errors import InputError
from trackers.checkpoints.checkpoint_store import CheckpointNotSaved, save_json, to_disk

LINES, DELIVERED, FILES, STORE = "journal.jsonl", "delivered.json", "files", "store.json"
SEQ, NAME = "seq", "name"
"""Fields of a record: its number, and the name of its file."""


class DamagedQueue(InputError):
    """A line before the last one is damaged."""


class RecordQueue:
    """Store records in a folder, each as a line of JSON with its number, with copies of their files.

    A record is on disk when `append` returns, its file before its line. An incomplete last line of a killed process is
    dropped, because its `append` did not return. `delivered` updates the number of the last uploaded record atomically,
    and truncates the file of lines after the last one; numbering continues. Only one process may use a queue. Lines are
    parsed once: `append` and `waiting` read only the lines added since the last call.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = (0, 0)
        """Number of the last complete line that has been read, and its end in the file."""

    def pending(self) -> list[dict[str, Any]]:
        """Read the records that have not been uploaded, in order.

        Raises:
            DamagedQueue: a record cannot be read.
        """
        done = self._delivered()
        self._known = (0, 0)
        return [record for record in self._read_on() if record[SEQ] > done]

    def waiting(self) -> int:
        """Count the records that have not been uploaded. Raises `DamagedQueue`."""
        for _ in self._read_on():
            pass
        return max(0, self._known[0] - self._delivered())

    def append(self, record: Mapping[str, Any], path: Path | None = None) -> dict[str, Any]:
        """Save a JSON-compatible record and a copy of its file or folder; return it with its number.

        Raises:
            CheckpointNotSaved: the disk is full or cannot be written; earlier records remain complete.
        """
        with self._disk_refusals():
            return self._append(record, path)

    @contextmanager
    def _disk_refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointNotSaved(
                f"{self.folder}: records for the tracking server cannot be saved ({error.strerror or error})"
            ) from error

    def _append(self, record: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.waiting()
        number, whole = self._known
        numbered = {SEQ: max(number, self._delivered()) + 1, **record}
        if path is not None:
            numbered[NAME] = path.name
            place = self.folder / FILES / str(numbered[SEQ])
            # An earlier append may have been interrupted.
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            copy = place / path.name
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
            for each in (copy, *copy.rglob("*"), place, place.parent):
                to_disk(each)
        line = json.dumps(numbered, ensure_ascii=False, allow_nan=False) + "\n"
        with open(self.folder / LINES, "ab") as file:
            # Drop an incomplete line.
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
        """Return the copy of the file or folder of a record, if it has one."""
        return self.folder / FILES / str(record[SEQ]) / record[NAME] if NAME in record else None

    def delivered(self, record: Mapping[str, Any]) -> None:
        """Mark this record and earlier ones as uploaded, and remove its file."""
        with self._disk_refusals():
            save_json(self.folder / DELIVERED, {SEQ: record[SEQ]})
            if not self.waiting():
                os.truncate(self.folder / LINES, 0)
        shutil.rmtree(self.folder / FILES / str(record[SEQ]), ignore_errors=True)

    def name_store(self, store: str) -> None:
        """Save the address of the store of the records, without a password."""
        with self._disk_refusals():
            self.folder.mkdir(parents=True, exist_ok=True)
            save_json(self.folder / STORE, {"store": store})

    def store(self) -> str:
        """Return the saved address. Raises `DamagedQueue` if it cannot be read."""
        try:
            return json.loads((self.folder / STORE).read_text(encoding="utf-8"))["store"]
        except (OSError, ValueError, KeyError) as error:
            raise DamagedQueue(f"{self.folder / STORE}: expected the store's address") from error

    def _delivered(self) -> int:
        path = self.folder / DELIVERED
        try:
            return int(json.loads(path.read_text(encoding="utf-8"))[SEQ])
        except FileNotFoundError:
            return 0
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedQueue(f"{path}: expected the number of the last record that was delivered") from error

    def _read_on(self) -> Iterator[dict[str, Any]]:
        """Read the complete lines after the known ones from the file, so that none is lost after a Ctrl-C."""
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
                # After a truncation the first line has the number after the last uploaded one.
                if record[SEQ] not in ((number + 1,) if offset else range(1, self._delivered() + 2)):
                    raise ValueError
            except (ValueError, KeyError, TypeError) as error:
                place = path.read_bytes()[:offset].count(b"\n") + 1
                raise DamagedQueue(f"{path}: line {place} is not what was written") from error
            self._known = (record[SEQ], offset + len(line) + 1)
            yield record
