"""A store in a file or folder of this machine: whether it can be written, and its tables, made by one process."""

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
PATIENCE = 600.0
"""Seconds that a process waits for another one that makes the tables, which takes seconds."""
ROOM = 1 << 16
"""Bytes that must fit beside a store."""
REMEDY = "start the command in a folder that can be written, or set MLFLOW_TRACKING_URI"


def store_address() -> str:
    """The tracking URI, without an import of MLflow where nobody has imported it."""
    if "mlflow" in sys.modules:
        return sys.modules["mlflow"].get_tracking_uri()
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def place_of(address: str) -> Path | None:
    """The file or folder of a store on this machine; None for a store elsewhere."""
    if address.startswith("sqlite:"):
        return Path(unquote(urlsplit(address).path)[1:])
    if address.startswith("databricks"):
        return None
    parts = urlsplit(address)
    # One letter is a drive of Windows.
    if parts.scheme in ("", "file") or len(parts.scheme) == 1:
        return Path(unquote(parts.path) if parts.scheme == "file" else address)
    return None


def store_place() -> Path | None:
    """`place_of` the tracking URI."""
    return place_of(store_address())


def require_writable_store(*, reading: bool = False) -> None:
    """Try whether the store can be written, before MLflow does so for minutes.

    Args:
        reading: a store that is there is only read.

    Raises:
        InputError: it cannot.
    """
    place = store_place()
    if place is None or (reading and place.exists()):
        return
    folder = next(each for each in (place.absolute().parent, *place.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
            file.flush()
        if place.is_file():
            with open(place, "r+b"):
                pass
    except OSError as error:
        what = "does not exist there and cannot be made" if reading else "cannot be written"
        raise InputError(f"{folder}: the store {place.name} {what} ({error.strerror or error}); {REMEDY}") from error


def make_store() -> None:
    """Make the tables of a SQLite store where they are missing, one process at a time: MLflow's migrations are not
    made for two."""
    address = store_address()
    if not address.startswith("sqlite:"):
        return
    file = place_of(address)
    if _is_whole(file):
        return
    from mlflow import MlflowClient

    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.with_name(f"{file.name}.lock")
    with file_lock(lock, PATIENCE, TimeoutError(f"{lock}: held by another process for {PATIENCE:g} s")):
        MlflowClient().search_experiments(max_results=1)


def _is_whole(file: Path) -> bool:
    """Whether a database has an experiment: the default one is what MLflow makes last."""
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return False
