"""One process at a time, by a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path | str, patience: float, otherwise: Exception) -> Iterator[None]:
    """While entered, no other process is in here with the same file.

    An exclusive SQLite transaction, which the system ends with the process, however that ends.

    Args:
        patience: seconds that it waits for its turn.
        otherwise: raised where there was none.
    """
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise otherwise from error
        yield
    finally:
        connection.close()
