"""Trainings that have not come to their end, each a folder that one process at a time holds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RecordedRun
from mlflow.exceptions import MlflowException

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError
from trackers.checkpoints.checkpoint_store import CheckpointStore
from trackers.runs.file_lock import file_lock

RUN_ID = re.compile(r"[0-9a-f]{32}")
LOCK, STATES = "lock", "states"


class Held(RuntimeError):
    """Another process works at the training."""


class Unfinished:
    """The training of a run: `$MRCNN_CACHE/unfinished/<run>` with its states, checkpoints and events.

    It lasts until the run has FINISHED, whatever becomes of the process.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.folder = unfinished_folder() / run_id
        self.states = CheckpointStore(self.folder / STATES)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While entered, no other process works at this training, see `file_lock`.

        Raises:
            Held: another one does.
            InputError: the folder cannot be made.
        """
        with hold(self.folder, f"run {self.run_id} is under way, in another process"):
            yield

    def remove(self) -> None:
        """Lets go of all that was kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def hold(folder: Path, otherwise: str) -> Iterator[None]:
    """While entered, `folder`, made where there is none, is this process's: see `Unfinished.held`.

    Args:
        otherwise: what `Held` says where it is another's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); set MRCNN_CACHE to another folder") from error
    with file_lock(folder / LOCK, 0, Held(otherwise)):
        yield


def unfinished_folder() -> Path:
    return cache_folder() / "unfinished"


def unfinished(client: MlflowClient) -> list[tuple[Unfinished, RecordedRun]]:
    """Those trainings of this store whose runs have not FINISHED, the newest first; some may be under way."""
    present = unfinished_folder().iterdir() if unfinished_folder().is_dir() else ()
    found = []
    for path in present:
        run = recorded(client, path.name) if RUN_ID.fullmatch(path.name) else None
        if run is not None and run.info.status == "FINISHED":
            # Killed between its run's end and its own.
            Unfinished(path.name).remove()
        elif run is not None:
            found.append((Unfinished(path.name), run))
    return sorted(found, key=lambda each: each[1].info.start_time, reverse=True)


def recorded(client: MlflowClient, run_id: str) -> RecordedRun | None:
    """The run of the store, None where there is none or it was deleted."""
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run if run.info.lifecycle_stage == LifecycleStage.ACTIVE else None
