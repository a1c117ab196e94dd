"""One process at a time decides who is champion."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trackers.file_lock import file_lock

PATIENCE = 120.0
"""Seconds that a process waits for its turn. What is done within takes a second or two."""
ABANDONED = 60.0
"""Seconds after which a lock on a server counts as left behind by a process that died."""
_PAUSE = 0.1


class RegistryBusy(RuntimeError):
    """Another process holds the registry for longer than anybody should."""


@contextmanager
def registry_lock(name: str) -> Iterator[None]:
    """While entered, no other process of this project moves aliases of the registered model `name`.

    A store in a file or folder: a `file_lock` beside it. A server or database: a registered model `<name>-lock`, made
    and removed; the store holds names unique, so of several that make it at once one succeeds.

    Raises:
        RegistryBusy: no turn within `PATIENCE`.
    """
    address = mlflow.get_registry_uri()
    file = lock_file(address, name)
    if file is None:
        with held_by_name(name):
            yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file, PATIENCE, RegistryBusy(f"{file}: held by another process for {PATIENCE:g} s")):
        yield


def lock_file(address: str, name: str) -> Path | None:
    """The file that stands for the turn in a local store, or None for a store that others reach otherwise."""
    if address.startswith("sqlite:"):
        database = Path(unquote(urlsplit(address).path)[1:])
        return database.with_name(f"{database.name}.{name}.lock")
    if address.startswith("databricks"):
        return None
    parts = urlsplit(address)
    # One letter is a drive of Windows.
    if parts.scheme in ("", "file") or len(parts.scheme) == 1:
        folder = Path(unquote(parts.path) if parts.scheme == "file" else address)
        return folder.with_name(f"{folder.name}.{name}.lock")
    return None


@contextmanager
def held_by_name(name: str) -> Iterator[None]:
    """The same through the store's own unique names."""
    client, lock = MlflowClient(), f"{name}-lock"
    tags = {"lock": "held while aliases move; may be deleted when older than a minute", "process": str(os.getpid())}
    started, seen, since = time.monotonic(), None, 0.0
    while True:
        try:
            # MLflow tells on stderr that it made a model.
            with contextlib.redirect_stderr(io.StringIO()):
                client.create_registered_model(lock, tags=tags)
            break
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        now, made = time.monotonic(), _made(client, lock)
        if made != seen:
            seen, since = made, now
        elif made is not None and now - since > ABANDONED:
            _remove(client, lock)
        if now - started > PATIENCE:
            raise RegistryBusy(f"registered model {lock}: held by another process for {PATIENCE:g} s")
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        _remove(client, lock)


def _made(client: MlflowClient, lock: str) -> int | None:
    """When the lock at hand was made, by the store's clock; None where there is none any more."""
    try:
        return client.get_registered_model(lock).creation_timestamp
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _remove(client: MlflowClient, lock: str) -> None:
    try:
        client.delete_registered_model(lock)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
