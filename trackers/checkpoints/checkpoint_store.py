"""Save the checkpoint of each epoch of a training once: the best, the last and the one to resume from are entries."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrcnn.data.digest import file_digest
from mrcnn.errors import InputError
from trackers.runs.serialization import json_text

KEPT = 2
"""Newest checkpoints that are retained: the second serves where the newest is found damaged."""
BEST, LAST, INDEX = "best.keras", "last.keras", "checkpoints.json"
"""Names of the artifacts that `CheckpointStore.export` makes."""
MODEL, FACTS, DIGESTS = "model.keras", "facts.json", "digests.json"
BEST_EPOCH = "best_epoch"
"""The fact that names the epoch whose checkpoint is retained besides the newest ones; None: there is none yet."""
BEING_WRITTEN = "being-written"
_EPOCH = re.compile(r"epoch-(\d{6})")


class CheckpointNotSaved(RuntimeError):
    """The disk does not accept a checkpoint; the earlier ones are intact."""


@dataclass(frozen=True)
class TrainingCheckpoint:
    """A checkpoint whose files have been verified.

    Attributes:
        epoch: number of epochs done; 0 is before the first.
        folder: holds the files.
        facts: JSON data, as saved.
    """

    epoch: int
    folder: Path
    facts: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The Keras file, with the optimizer where the model was compiled."""
        return self.folder / MODEL


class CheckpointStore:
    """The checkpoints of one training, a folder such as `epoch-000007` for each, in `folder`.

    Retained are the newest `KEPT` and the best epochs that these name. A checkpoint is written into the folder
    `being-written`, flushed to disk, then renamed, so a killed process or a full disk leaves the earlier ones intact.
    `digests.json` holds the SHA-256 digests of its files. Nothing is pickled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def epochs(self) -> list[int]:
        """Return the epochs that have a checkpoint, damaged ones included, newest first."""
        present = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((int(match[1]) for path in present if (match := _EPOCH.fullmatch(path.name))), reverse=True)

    def path(self, epoch: int) -> Path:
        """Return the Keras file of an epoch."""
        return self._place(epoch) / MODEL

    def save(self, epoch: int, write_model: Callable[[Path], object], facts: Mapping[str, object]) -> None:
        """Save the checkpoint after `epoch` finished epochs, with JSON `facts`, and delete those no longer needed.

        Raises:
            CheckpointNotSaved: the disk is full or refuses; the earlier checkpoints are intact.
        """
        draft, place = self.folder / BEING_WRITTEN, self._place(epoch)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
            write_model(draft / MODEL)
            (draft / FACTS).write_text(json.dumps(facts), encoding="utf-8")
            digests = {name: file_digest(draft / name) for name in (MODEL, FACTS)}
            (draft / DIGESTS).write_text(json.dumps(digests), encoding="utf-8")
            for path in draft.iterdir():
                to_disk(path)
            to_disk(draft)
            # Only a damaged checkpoint can be there.
            shutil.rmtree(place, ignore_errors=True)
            os.replace(draft, place)
            to_disk(self.folder)
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise CheckpointNotSaved(
                f"epoch {epoch}: its checkpoint cannot be written to {self.folder.parent} ({reason}); "
                "the one before it is kept"
            ) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        self._delete_old()

    def facts(self) -> Mapping[str, Any] | None:
        """Return the facts of the newest checkpoint whose facts are intact, without reading its model."""
        for epoch in self.epochs():
            if self._damage(epoch, (FACTS,)) is None:
                return load_json(self._place(epoch) / FACTS)
        return None

    def newest(self) -> tuple[TrainingCheckpoint | None, list[str]]:
        """Return the newest intact checkpoint, or None, and a description of the damage of each newer one."""
        problems = []
        for epoch in self.epochs():
            damage = self._damage(epoch, (FACTS, MODEL))
            if damage is None:
                facts = load_json(self._place(epoch) / FACTS)
                best = facts.get(BEST_EPOCH)
                if best is not None and best != epoch and (damage := self._damage(best, (MODEL,))) is not None:
                    damage = f"the best model, of epoch {best}: {damage}"
                else:
                    return TrainingCheckpoint(epoch, self._place(epoch), facts), problems
            problems.append(f"the checkpoint of epoch {epoch} is damaged: {damage}")
        return None, problems

    def export(self, folder: Path, index: Mapping[str, object]) -> None:
        """Make `best.keras`, `last.keras` and `checkpoints.json` in an empty folder, by symbolic links where possible.

        `index`, the content of the last, has the epochs of `best`, which may be None, and of `last`.
        """
        for name, entry in ((BEST, index["best"]), (LAST, index["last"])):
            if isinstance(entry, Mapping):
                _link(self.path(entry["epoch"]).absolute(), folder / name)
        (folder / INDEX).write_text(json_text(index), encoding="utf-8")

    def _delete_old(self) -> None:
        epochs = self.epochs()
        retained: set[int | None] = set(epochs[:KEPT])
        for epoch in epochs[:KEPT]:
            if self._damage(epoch, (FACTS,)) is None:
                retained |= {load_json(self._place(epoch) / FACTS).get(BEST_EPOCH)}
        for epoch in epochs:
            if epoch not in retained:
                shutil.rmtree(self._place(epoch), ignore_errors=True)

    def _place(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:06d}"

    def _damage(self, epoch: int, names: tuple[str, ...]) -> str | None:
        """Describe how files of a checkpoint differ from those written; None: they are intact."""
        place = self._place(epoch)
        try:
            digests = load_json(place / DIGESTS)
            if MODEL not in digests:
                return "an earlier version of medmrcnn wrote it, which this one cannot resume"
            for name in names:
                if file_digest(place / name) != digests[name]:
                    return f"{name} is not what was written"
        except InputError as error:
            return str(error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{DIGESTS}: {type(error).__name__}: {error}"
        return None


def load_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file that a killed process leaves either complete or as it was before."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value), encoding="utf-8")
    to_disk(draft)
    os.replace(draft, path)
    to_disk(path.parent)


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source)
    except OSError:  # Windows may not permit links
        shutil.copyfile(source, target)


def to_disk(path: Path) -> None:
    """Flush a file's content, or the names in a folder, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
