"""What a training needs to go on after its process was killed: written whole or not at all, and verified when read."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrcnn.data.digest import file_digest
from mrcnn.errors import InputError

KEPT = 2
"""States that stay: the newest, and the one before it for the case that the newest is found damaged."""
ARRAYS, FACTS, DIGESTS = "arrays.npz", "facts.json", "digests.json"
BEING_WRITTEN = "being-written"
_EPOCH = re.compile(r"epoch-(\d{6})")


class CheckpointNotSaved(RuntimeError):
    """The disk did not take a checkpoint; those before it are whole."""


@contextmanager
def disk_refusals(epoch: int, folder: Path) -> Iterator[None]:
    """While entered, what the disk refuses becomes a `CheckpointNotSaved` that names the epoch and the folder."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise CheckpointNotSaved(
            f"epoch {epoch}: its checkpoint cannot be written to {folder} ({reason}); the one before it is kept"
        ) from error


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A state that was read back.

    Attributes:
        epoch: after which it was kept; 0 is before the first.
        folder: with the files that were kept beside it.
        facts: plain data, as given.
        arrays: by name, in the order given.
    """

    epoch: int
    folder: Path
    facts: Mapping[str, object]
    arrays: Mapping[str, np.ndarray]


class CheckpointStore:
    """The last `KEPT` states of a training, a folder `epoch-000007` of each in `folder`.

    One is written into the folder `being-written` beside them, made durable, then renamed; so a killed process or a
    full disk leaves those that were there. SHA-256 digests of its files stand in `digests.json`. Nothing is pickled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def epochs(self) -> list[int]:
        """Of which there is a state, damaged ones included; the newest first."""
        present = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((int(found[1]) for path in present if (found := _EPOCH.fullmatch(path.name))), reverse=True)

    def save(
        self, epoch: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], files: Mapping[str, Path]
    ) -> None:
        """Keeps the state after `epoch`, with copies of `files` under the names given, and lets go of older ones.

        Raises:
            OSError: the disk is full or refuses; the states before are as they were.
        """
        draft, place = self.folder / BEING_WRITTEN, self._place(epoch)
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            with open(draft / ARRAYS, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            (draft / FACTS).write_text(json.dumps(facts), encoding="utf-8")
            for name, path in files.items():
                shutil.copyfile(path, draft / name)
            digests = {path.name: file_digest(path) for path in sorted(draft.iterdir())}
            (draft / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
            for path in draft.iterdir():
                to_disk(path)
            to_disk(draft)
            # Only a damaged one can stand there.
            shutil.rmtree(place, ignore_errors=True)
            os.replace(draft, place)
            to_disk(self.folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self.epochs()[KEPT:]:
            shutil.rmtree(self._place(old), ignore_errors=True)

    def facts(self) -> Mapping[str, object] | None:
        """Those of the newest state whose facts are whole, without a look at its arrays; None where there is none."""
        for epoch in self.epochs():
            place = self._place(epoch)
            if _damage(place, (FACTS,)) is None:
                return _read(place / FACTS)
        return None

    def newest(self) -> tuple[TrainingCheckpoint | None, list[str]]:
        """The newest state that is whole, None where there is none; and what is wrong with those that are newer."""
        problems = []
        for epoch in self.epochs():
            place = self._place(epoch)
            damage = _damage(place)
            if damage is None:
                try:
                    arrays = dict(_arrays(place / ARRAYS))
                except (OSError, ValueError, zipfile.BadZipFile) as error:
                    damage = f"{ARRAYS} cannot be read ({error})"
                else:
                    return TrainingCheckpoint(epoch, place, _read(place / FACTS), arrays), problems
            problems.append(f"the checkpoint of epoch {epoch} is damaged: {damage}")
        return None, problems

    def _place(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:06d}"


def _read(path: Path) -> Mapping[str, object]:
    return json.loads(path.read_text(encoding="utf-8"))


def _arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as found:
        for name in found.files:
            yield name, found[name]


def _damage(place: Path, names: tuple[str, ...] = ()) -> str | None:
    """What is wrong with the files of a state (all that its list names, or `names` of them); None: nothing."""
    try:
        digests = _read(place / DIGESTS)
        for name in names or {ARRAYS, FACTS, *digests}:
            if file_digest(place / name) != digests[name]:
                return f"{name} is not what was written"
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        return f"{DIGESTS}: {type(error).__name__}: {error}" if not isinstance(error, InputError) else str(error)
    return None


def to_disk(path: Path) -> None:
    """Makes a file's content, or a folder's names, durable."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
