"""Folders of trainings that have not finished, each locked by at most one process."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RecordedRun
from mlflow.exceptions import MlflowException

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError
from trackers.checkpoints.checkpoint_store import CheckpointStore, load_json, save_json
from trackers.runs.file_lock import file_lock

RUN_ID = re.compile(r"[0-9a-f]{32}")
LOCK, STATES, GROUP = "lock", "states", "group.json"


class Held(RuntimeError):
    """Another process has locked the training."""


class Unfinished:
    """The training of a run: the folder `$MRCNN_CACHE/unfinished/<run>` with its checkpoints and events.

    That of a group of trainings has the facts of the group in place of checkpoints, and the models trained so far.

    It exists until the run is FINISHED, also when the process is killed.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.folder = unfinished_folder() / run_id
        self.states = CheckpointStore(self.folder / STATES)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the training for the block, see `file_lock`.

        Raises:
            Held: another process has locked it.
            InputError: the folder cannot be made.
        """
        with hold(self.folder, f"run {self.run_id} is under way, in another process"):
            yield

    def save_group(self, facts: Mapping[str, Any]) -> None:
        """Save the facts by which a group of trainings is resumed."""
        save_json(self.folder / GROUP, facts)

    def facts(self) -> Mapping[str, Any] | None:
        """Return the facts of the group, or of the newest checkpoint; None: there are none."""
        group = self.folder / GROUP
        return load_json(group) if group.exists() else self.states.facts()

    def resumable(self) -> bool:
        """Return whether there is a checkpoint or a group."""
        return (self.folder / GROUP).exists() or bool(self.states.epochs())

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def hold(folder: Path, otherwise: str) -> Iterator[None]:
    """Make `folder` if there is none, and lock it for the block, see `Unfinished.held`; `otherwise` is the message."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); set MRCNN_CACHE to another folder") from error
    with file_lock(folder / LOCK, 0, Held(otherwise)):
        yield


def unfinished_folder() -> Path:
    """Return the folder of all unfinished trainings."""
    return cache_folder() / "unfinished"


def unfinished(client: MlflowClient) -> list[tuple[Unfinished, RecordedRun]]:
    """List the trainings of this store whose runs are not FINISHED, newest first; another process may run some."""
    present = unfinished_folder().iterdir() if unfinished_folder().is_dir() else ()
    found = []
    for path in present:
        run = recorded(client, path.name) if RUN_ID.fullmatch(path.name) else None
        if run is not None and run.info.status == "FINISHED":
            # Its process was killed after the end of the run.
            Unfinished(path.name).remove()
        elif run is not None:
            found.append((Unfinished(path.name), run))
    return sorted(found, key=lambda each: each[1].info.start_time, reverse=True)


def recorded(client: MlflowClient, run_id: str) -> RecordedRun | None:
    """Return the run, or None where the store has none or it was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None
