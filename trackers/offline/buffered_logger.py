"""The way of a run's records to a store that may be away for a while."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

from mrcnn.errors import InputError
from trackers.checkpoints.unfinished_runs import Held, hold
from trackers.offline.pending_records import pending_folder
from trackers.offline.record_queue import RecordQueue
from trackers.offline.server import is_server, one_attempt, reason, require_run, unreachable
from trackers.offline.uploader import Uploader
from trackers.runs.address import without_credentials

PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""Seconds without an attempt after the first that failed; they double with each, up to the longest."""

_log = logging.getLogger(__name__)


class BufferedLogger:
    """Sends the records of one run, each at once or, as long as the server is away, by way of a `RecordQueue`.

    On a store in a file or a database it only sends. Otherwise it holds the run's folder until `close`. Records arrive
    in the order of `send`; none is lost, and none taken twice.

    Raises:
        InputError: `mrcnn sync` is at work at the run, or what an earlier process of it left is damaged.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._held = ExitStack()
        self._journal: RecordQueue | None = None
        self._next, self._pause = 0.0, PAUSE
        address = mlflow.get_tracking_uri()
        if is_server(address):
            folder = pending_folder() / run_id
            try:
                self._held.enter_context(hold(folder, f"run {run_id} is being delivered by another process"))
            except Held as error:
                raise InputError(f"{error}; try again when it is done") from error
            self._journal = RecordQueue(folder)
            self._journal.name_store(without_credentials(address))
            # Damage is told now rather than when the first record fails.
            self._journal.pending()

    def send(self, record: Mapping[str, Any], path: Path | None = None, by: Callable[[], object] | None = None) -> None:
        """Returns when the record is in the store, or durable in the journal.

        Args:
            path: the file or folder that it is about.
            by: does what the record says in the first attempt; None: `Uploader` does.

        Raises:
            MlflowException: the store refuses it, or one before it.
            NotKept: the store is away, and the disk takes nothing.
        """
        direct = by or partial(Uploader(self._client, self._run_id, again=False).deliver, record, path)
        if self._journal is None:
            direct()
        elif self.deliver():
            try:
                with one_attempt(large=path is not None):
                    direct()
                require_run(self._client, self._run_id)
            except Exception as error:
                if self._refused(error):
                    raise
                self._journal.append(record, path)
                self._away(error)
        else:
            self._journal.append(record, path)

    def deliver(self, *, now: bool = False) -> bool:
        """Sends what is kept, unless an attempt has just failed; whether nothing is left.

        Args:
            now: also right after an attempt.
        """
        if not self._left():
            return True
        if not now and time.monotonic() < self._next:
            return False
        pending = self._journal.pending()
        delivery = Uploader(self._client, self._run_id, again=True)
        for record in pending:
            try:
                delivery.deliver(record, self._journal.path(record))
            except Exception as error:
                if self._refused(error):
                    raise
                self._away(error)
                return False
            self._journal.delivered(record)
        self._pause = PAUSE
        _log.warning("the tracking server is back: %d records of run %s delivered", len(pending), self._run_id)
        return True

    def wait(self, seconds: float) -> bool:
        """Sends what is kept, and tries again for so long; whether nothing is left."""
        end = time.monotonic() + seconds
        while not self.deliver(now=True):
            if time.monotonic() + PAUSE > end:
                return False
            time.sleep(PAUSE)
        return True

    def close(self) -> int:
        """Lets go of the folder, and removes it where nothing is left in it; returns how many records are."""
        left = self._left()
        if self._journal is not None and not left:
            shutil.rmtree(self._journal.folder, ignore_errors=True)
        self._held.close()
        return left

    def _refused(self, error: Exception) -> bool:
        """Whether the server that has the run refuses a record; what something else refuses at its address counts as
        an outage."""
        if unreachable(error):
            return False
        try:
            require_run(self._client, self._run_id)
        except Exception as second:  # noqa: BLE001 the first error is the news
            return not unreachable(second)
        return True

    def _left(self) -> int:
        """Count what the journal holds: a Ctrl-C may come between a record's way to the disk and any list of ours."""
        return 0 if self._journal is None else self._journal.waiting()

    def _away(self, error: Exception) -> None:
        if self._pause == PAUSE:
            _log.warning(
                "the tracking server does not answer (%s): what is logged is kept in %s until it is back",
                reason(error),
                self._journal.folder,
            )
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
