"""Check that a store on this machine can be written, and create its tables by one process at a time."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mrcnn.errors import InputError
from trackers.runs.file_lock import file_lock

DEFAULT = "sqlite:///mlflow.db"
LOCK_TIMEOUT = 600.0
"""Seconds that a process waits for another one that creates the tables, which takes seconds."""
MIN_FREE = 1 << 16
"""Bytes that must be free beside a store."""
REMEDY = "start the command in a folder that can be written, or set MLFLOW_TRACKING_URI"


def store_address() -> str:
    """Return the tracking URI without importing MLflow."""
    if "mlflow" in sys.modules:
        return sys.modules["mlflow"].get_tracking_uri()
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def place_of(address: str) -> Path | None:
    """Return the file or folder of a store on this machine; None for other stores."""
    if address.startswith("sqlite:"):
        return Path(unquote(urlsplit(address).path)[1:])
    if address.startswith("databricks"):
        return None
    parts = urlsplit(address)
    # One letter is a Windows drive.
    if parts.scheme in ("", "file") or len(parts.scheme) == 1:
        return Path(unquote(parts.path) if parts.scheme == "file" else address)
    return None


def store_place() -> Path | None:
    """Return the file or folder of the tracking URI."""
    return place_of(store_address())


def require_writable_store(*, reading: bool = False) -> None:
    """Check that the store can be written, before MLflow retries for minutes; with `reading` it may just exist.

    Raises:
        InputError: it cannot be written.
    """
    place = store_place()
    if place is None or (reading and place.exists()):
        return
    folder = next(each for each in (place.absolute().parent, *place.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(MIN_FREE))
            file.flush()
        if place.is_file():
            with open(place, "r+b"):
                pass
    except OSError as error:
        what = "does not exist there and cannot be made" if reading else "cannot be written"
        raise InputError(f"{folder}: the store {place.name} {what} ({error.strerror or error}); {REMEDY}") from error


def make_store() -> None:
    """Create missing tables of a SQLite store in one process, because MLflow's migrations do not support several."""
    address = store_address()
    file = place_of(address)
    if file is None or not address.startswith("sqlite:") or _has_tables(file):
        return
    from mlflow import MlflowClient

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f"{file.name}.lock")
    with file_lock(lock, LOCK_TIMEOUT, TimeoutError(f"{lock}: held by another process for {LOCK_TIMEOUT:g} s")):
        MlflowClient().search_experiments(max_results=1)


def _has_tables(file: Path) -> bool:
    """Return whether a database has an experiment; MLflow creates the default one last."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return False
