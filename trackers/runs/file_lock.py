"""Exclude other processes by a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path | str, timeout: float, otherwise: Exception) -> Iterator[None]:
    """Exclude other processes with the same file by an exclusive SQLite transaction, which ends with the process.

    `otherwise` is raised after `timeout` seconds.
    """
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise otherwise from error
        yield
    finally:
        connection.close()
