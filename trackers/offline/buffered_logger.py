"""Log the records of a run to a tracking server that may be unreachable for a while."""

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
"""Seconds between the first failed attempt and the next; doubled after each, up to the longest."""

_log = logging.getLogger(__name__)


class BufferedLogger:
    """Send the records of one run immediately, or through a `RecordQueue` while the server is unreachable.

    Records of a local store are sent only. For a server the logger locks the folder of the run until `close`. Records
    arrive in the order of `send`; none is lost or logged twice.

    Raises:
        InputError: `mrcnn sync` is processing the run, or the records of an earlier process are damaged.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id
        self._held = ExitStack()
        self._queue: RecordQueue | None = None
        self._next, self._pause = 0.0, PAUSE
        address = mlflow.get_tracking_uri()
        if is_server(address):
            folder = pending_folder() / run_id
            try:
                self._held.enter_context(hold(folder, f"run {run_id} is being delivered by another process"))
            except Held as error:
                raise InputError(f"{error}; try again when it is done") from error
            self._queue = RecordQueue(folder)
            self._queue.name_store(without_credentials(address))
            # Report damage now rather than with the first failing record.
            self._queue.pending()

    def send(self, record: Mapping[str, Any], path: Path | None = None, by: Callable[[], object] | None = None) -> None:
        """Return when the record is in the store, or saved in the queue.

        `path` is the file or folder of an artifact; `by` replaces `Uploader` in the first attempt.

        Raises:
            MlflowException: the store refuses the record or an earlier one.
            CheckpointNotSaved: the store is unreachable, and the disk cannot be written.
        """
        direct = by or partial(Uploader(self._client, self._run_id, again=False).deliver, record, path)
        if self._queue is None:
            direct()
        elif self.deliver():
            try:
                with one_attempt(large=path is not None):
                    direct()
                require_run(self._client, self._run_id)
            except Exception as error:
                if self._refused(error):
                    raise
                self._queue.append(record, path)
                self._away(error)
        else:
            self._queue.append(record, path)

    def deliver(self, *, now: bool = False) -> bool:
        """Send the queued records, unless an attempt has just failed and not `now`; return whether none is left."""
        if self._queue is None or not self._queue.waiting():
            return True
        if not now and time.monotonic() < self._next:
            return False
        pending = self._queue.pending()
        delivery = Uploader(self._client, self._run_id, again=True)
        for record in pending:
            try:
                delivery.deliver(record, self._queue.path(record))
            except Exception as error:
                if self._refused(error):
                    raise
                self._away(error)
                return False
            self._queue.delivered(record)
        self._pause = PAUSE
        _log.warning("the tracking server is back: %d records of run %s uploaded", len(pending), self._run_id)
        return True

    def wait(self, seconds: float) -> bool:
        """Send the queued records with attempts for `seconds`; return whether none is left."""
        end = time.monotonic() + seconds
        while not self.deliver(now=True):
            if time.monotonic() + PAUSE > end:
                return False
            time.sleep(PAUSE)
        return True

    def close(self) -> int:
        """Unlock the folder, and remove it if the queue is empty; return the number of queued records."""
        left = 0 if self._queue is None else self._queue.waiting()
        if self._queue is not None and not left:
            shutil.rmtree(self._queue.folder, ignore_errors=True)
        self._held.close()
        return left

    def _refused(self, error: Exception) -> bool:
        """Return whether the server that has the run refuses a record; anything else at its address is an outage."""
        if unreachable(error):
            return False
        try:
            require_run(self._client, self._run_id)
        except Exception as second:  # noqa: BLE001 the first error is reported
            return not unreachable(second)
        return True

    def _away(self, error: Exception) -> None:
        if self._pause == PAUSE and self._queue is not None:
            _log.warning(
                "the tracking server does not answer (%s): records are saved in %s until it is reachable",
                reason(error),
                self._queue.folder,
            )
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
