"""Upload records that runs could not log before their processes ended."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError
from trackers.checkpoints.unfinished_runs import RUN_ID, Held, hold
from trackers.offline.record_queue import DamagedQueue, RecordQueue
from trackers.offline.server import reason, unreachable
from trackers.offline.uploader import KIND, Uploader
from trackers.runs.address import hide_credentials, without_credentials


@dataclass
class PendingRecords:
    """The result of uploading the records of a run.

    Attributes:
        store: address of the store.
        kinds: number of records of each kind: `metrics`, `artifact` …
        delivered: number of uploaded records.
        problem: why some were not uploaded, or None.
    """

    run_id: str
    store: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    delivered: int = 0
    problem: str | None = None

    @property
    def left(self) -> int:
        """Number of records that have not been uploaded."""
        return self.kinds.total() - self.delivered


def pending_folder() -> Path:
    """Return the folder of the queues of all runs."""
    return cache_folder() / "unsent"


def pending_runs() -> list[str]:
    """Return the ids of the runs with queued records, and of running ones."""
    present = pending_folder().iterdir() if pending_folder().is_dir() else ()
    return sorted(path.name for path in present if RUN_ID.fullmatch(path.name))


def upload_pending(
    run_id: str, *, dry_run: bool = False, client_of: Callable[[str], MlflowClient] = MlflowClient
) -> PendingRecords | None:
    """Upload the queued records of a run, in order; with `dry_run` only count them. None without any."""
    # As in `trackers.runs.run`: the address that MLflow prints at the end of a run may contain a password.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    folder = pending_folder() / run_id
    found, queue = PendingRecords(run_id), RecordQueue(folder)
    try:
        with hold(folder, "another process has locked the run, and uploads its records"):
            pending = queue.pending()
            found.kinds.update(record[KIND] for record in pending)
            if pending:
                found.store = queue.store()
                if dry_run:
                    return found
                uploader = Uploader(client_of(_address(found.store)), run_id, again=True)
                for record in pending:
                    uploader.deliver(record, queue.path(record))
                    queue.delivered(record)
                    found.delivered += 1
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
    except (Held, InputError, DamagedQueue) as error:
        found.problem = str(error)
    except (MlflowException, requests.RequestException, OSError) as error:
        away = unreachable(error)
        found.problem = f"the server does not answer ({reason(error)})" if away else _refusal(error, folder)
    return found if found.kinds or found.problem else None


def _refusal(error: Exception, folder: Path) -> str:
    said = hide_credentials(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return f"refused: {said}; records that are not needed can be deleted: {folder}"


def _address(store: str) -> str:
    """Return the address of the store, with user and password of MLFLOW_TRACKING_URI if that is the same store."""
    given = mlflow.get_tracking_uri()
    return given if without_credentials(given) == store else store
