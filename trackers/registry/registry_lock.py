"""Lock a registered model while its aliases change, so that one process at a time chooses the champion."""

from __future__ import annotations

import contextlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from trackers.runs.file_lock import file_lock
from trackers.runs.local_store import place_of

PATIENCE = 120.0
"""Seconds that a process waits for the lock. Work under the lock takes a second or two."""
ABANDONED = 60.0
"""Seconds without a renewal after which a lock on a server belongs to a process that has died."""
OWNER, RENEWED = "owner", "renewed"
"""Tags of a lock on a server: the token of the owner, and the number of renewals."""
_PAUSE = 0.1

Check = Callable[[], None]
"""Raises `TurnLost` if another process has the lock."""


class RegistryBusy(RuntimeError):
    """Another process holds the lock for longer than `PATIENCE`."""


class TurnLost(RegistryBusy):
    """Another process has taken the lock, because this one did not renew it for `ABANDONED` seconds."""


@contextmanager
def registry_lock(name: str) -> Iterator[Check]:
    """Lock the registered model `name`: no other process of this project moves its aliases during the block.

    A store in a file or folder has a `file_lock` beside it, which cannot be lost; a server or database has
    `held_by_name`. Yields a function to call before each change.

    Raises:
        RegistryBusy: the lock is not free within `PATIENCE`.
    """
    address = mlflow.get_registry_uri()
    file = lock_file(address, name)
    if file is None:
        with held_by_name(name) as check:
            yield check
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(file, PATIENCE, RegistryBusy(f"{file}: held by another process for {PATIENCE:g} s")):
        yield lambda: None


def lock_file(address: str, name: str) -> Path | None:
    """Return the path of the lock file of a local store, or None for a store that is not a file or folder."""
    place = place_of(address)
    return None if place is None else place.with_name(f"{place.name}.{name}.lock")


@contextmanager
def held_by_name(name: str) -> Iterator[Check]:
    """Lock by creating a registered model `<name>-lock`: names are unique, so only one of several processes succeeds.

    Its tags have the token of its owner, who renews it from a thread. Another process removes a lock that is not
    renewed for `ABANDONED` seconds; see `_remove`.
    """
    client, lock, token = MlflowClient(), f"{name}-lock", uuid.uuid4().hex
    started, seen, since = time.monotonic(), None, 0.0
    while not _make(client, lock, {OWNER: token, "lock": "held while aliases move; is removed by the next process"}):
        now, state = time.monotonic(), _state(client, lock)
        if state != seen:
            seen, since = state, now
        elif state is not None and now - since > ABANDONED:
            _remove(client, lock, state[0], broken=now - since > 1.5 * ABANDONED)
        if now - started > PATIENCE:
            raise RegistryBusy(f"registered model {lock}: held by another process for {PATIENCE:g} s")
        time.sleep(_PAUSE)

    def check() -> None:
        state = _state(client, lock)
        if state is None or state[0] != token:
            raise TurnLost(f"registered model {lock}: another process took it over, for it was not renewed in time")

    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lock, token, over), daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        over.set()
        renewing.join(ABANDONED / 4)
        _remove(client, lock, token)


def _renew(lock: str, token: str, over: threading.Event) -> None:
    client, count = MlflowClient(), 0
    while not over.wait(ABANDONED / 4):
        count += 1
        # A failed renewal is repeated; `check` reports a lost lock.
        with contextlib.suppress(MlflowException, requests.RequestException, OSError):
            client.set_registered_model_tag(lock, RENEWED, f"{token} {count}")


def _make(client: MlflowClient, lock: str, tags: dict[str, str]) -> bool:
    """Create a registered model; return False if the name exists."""
    try:
        # MLflow reports on stderr that it created a model.
        with contextlib.redirect_stderr(io.StringIO()):
            client.create_registered_model(lock, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _state(client: MlflowClient, lock: str) -> tuple[str | None, str | None, int | None] | None:
    """Read the owner, renewal and creation time of the lock; None if it does not exist."""
    try:
        found = client.get_registered_model(lock)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return found.tags.get(OWNER), found.tags.get(RENEWED), found.creation_timestamp


def _remove(client: MlflowClient, lock: str, owner: str | None, *, broken: bool = False) -> None:
    """Remove the lock if it is still that of `owner`.

    The store cannot compare and delete in one step. So a process, also the owner, first creates the registered model
    `<lock>-<owner>`, which only one process can: no other can then replace the lock between the check of its owner and
    its removal.

    Args:
        client: of the registry.
        lock: name of the lock.
        owner: token of the owner that was seen.
        broken: remove it although that model exists, because the process that created it has died.
    """
    turn = f"{lock}-{owner}"
    if not _make(client, turn, {"lock": "held while a lock is removed"}):
        if broken:
            _delete(client, turn)
        return
    try:
        state = _state(client, lock)
        if state is not None and state[0] == owner:
            _delete(client, lock)
    finally:
        _delete(client, turn)


def _delete(client: MlflowClient, name: str) -> None:
    try:
        client.delete_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
