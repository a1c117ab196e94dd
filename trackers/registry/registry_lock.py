"""One process at a time decides who is champion."""

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
"""Seconds that a process waits for its turn. What is done within takes a second or two."""
ABANDONED = 60.0
"""Seconds without a renewal after which a lock on a server counts as left behind by a process that died."""
OWNER, RENEWED = "owner", "renewed"
"""Tags of a lock on a server: the token of the process that holds it, and how often that has renewed it."""
_PAUSE = 0.1

Check = Callable[[], None]
"""Raises `TurnLost` where another process has the turn."""


class RegistryBusy(RuntimeError):
    """Another process holds the registry for longer than anybody should."""


class TurnLost(RegistryBusy):
    """Another process has taken the turn of this one, which was stopped or cut off for longer than `ABANDONED`."""


@contextmanager
def registry_lock(name: str) -> Iterator[Check]:
    """While entered, no other process of this project moves aliases of the registered model `name`.

    A store in a file or folder: a `file_lock` beside it, which nobody can take. A server or database: `held_by_name`.
    Yields what is called before each change, and raises `TurnLost` where the turn is another's.

    Raises:
        RegistryBusy: no turn within `PATIENCE`.
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
    """The file that stands for the turn in a local store, or None for a store that others reach otherwise."""
    place = place_of(address)
    return None if place is None else place.with_name(f"{place.name}.{name}.lock")


@contextmanager
def held_by_name(name: str) -> Iterator[Check]:
    """The same through a registered model `<name>-lock`, made and removed: the store holds names unique, so of several
    that make it at once one succeeds.

    It carries the token of its owner, who renews it from a thread. One that is not renewed for `ABANDONED` seconds is
    removed by another process; see `_remove`.
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
        # What cannot be renewed now may be the next time; `check` finds out what became of it.
        with contextlib.suppress(MlflowException, requests.RequestException, OSError):
            client.set_registered_model_tag(lock, RENEWED, f"{token} {count}")


def _make(client: MlflowClient, lock: str, tags: dict[str, str]) -> bool:
    """Make a registered model; False where there is one of its name."""
    try:
        # MLflow tells on stderr that it made a model.
        with contextlib.redirect_stderr(io.StringIO()):
            client.create_registered_model(lock, tags=tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _state(client: MlflowClient, lock: str) -> tuple[str | None, str | None, int] | None:
    """Owner, renewal and time of the lock at hand; None where there is none."""
    try:
        found = client.get_registered_model(lock)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return found.tags.get(OWNER), found.tags.get(RENEWED), found.creation_timestamp


def _remove(client: MlflowClient, lock: str, owner: str | None, *, broken: bool = False) -> None:
    """Remove the lock of `owner`, and of nobody else.

    The store cannot compare and delete at once. So a lock is removed, also by its owner, only by who has made the
    registered model `<lock>-<owner>`, which again one at a time can: then nobody else can have removed it and made
    another one between the look at its owner and its removal.

    Args:
        broken: who has made that model did not come to the removal, and has died.
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
