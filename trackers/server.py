"""Whether a tracking server answers, and what an error says of that."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from mrcnn.errors import InputError
from trackers.address import hide_credentials

ANSWER = 10
"""Seconds for taking a connection, and again for an answer, unless MLFLOW_HTTP_REQUEST_TIMEOUT says otherwise."""
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
NOW_AND_THEN = (408, 429)
"""Of the answers that blame the request, those that the same request may not meet again."""
_FROM_HTTP = "API request to "
"""How `mlflow.utils.rest_utils` begins where there was no answer; MLflow's errors of its own have no code either."""
_turn = threading.RLock()


class ServerAway(RuntimeError):
    """The tracking server does not answer, and something could not be done without it."""


class Undelivered(ServerAway):
    """All was done, but the tracking server does not know of it yet."""


def is_server(tracking_uri: str) -> bool:
    return urlsplit(tracking_uri).scheme in ("http", "https")


def unreachable(error: BaseException) -> bool:
    """Whether `error` says that the server, or what stands before it, is away, busy or broken; its refusals are not
    that. After such an error the request may have been taken nevertheless."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _passes(error.response.status_code)
    if isinstance(error, requests.RequestException | ConnectionError | TimeoutError):
        return True
    if isinstance(error, MlflowException):
        of_server = isinstance(error, RestException) or str(error).startswith(_FROM_HTTP)
        return of_server and _passes(error.get_http_status_code())
    return False


def _passes(status: int) -> bool:
    return status >= 500 or status in NOW_AND_THEN


@contextmanager
def one_attempt(*, large: bool = False) -> Iterator[None]:
    """While entered, MLflow asks a server once and soon gives up; otherwise it repeats a request for minutes, and a
    repeated one whose answer was lost is taken twice.

    Args:
        large: a file goes to the server, which may take its time; MLflow's own limit holds.
    """
    with _turn:
        before = {name: os.environ.get(name) for name in (RETRIES, TIMEOUT)}
        os.environ[RETRIES] = "0"
        if not large:
            os.environ.setdefault(TIMEOUT, str(ANSWER))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def check_reachable() -> None:
    """Ask the tracking server once; of a store in a file or a database nothing is asked.

    Raises:
        InputError: it does not answer.
    """
    address = mlflow.get_tracking_uri()
    if not is_server(address):
        return
    try:
        with one_attempt():
            MlflowClient().search_experiments(max_results=1)
    except (MlflowException, requests.RequestException) as error:
        if not unreachable(error):
            raise
        raise InputError(
            f"MLFLOW_TRACKING_URI={hide_credentials(address)}: the tracking server does not answer "
            f"({reason(error)}); start it, or name another store"
        ) from error


def reason(error: BaseException) -> str:
    """Why there was no answer, in a few words without the address."""
    text = str(error)
    for said, words in (
        ("Connection refused", "connection refused"),
        ("timed out", "no answer in time"),
        ("timeout", "no answer in time"),
        ("resolve", "unknown host"),
        ("too many", "an error of the server"),
        ("Connection aborted", "connection broken off"),
        ("certificate", "its certificate is not trusted"),
    ):
        if said in text:
            return words
    return hide_credentials(text.splitlines()[0])[:200] if text else type(error).__name__
