"""Check whether a tracking server answers, and classify errors."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException

from mrcnn.errors import InputError
from trackers.runs.address import hide_credentials
from trackers.runs.local_store import make_store, require_writable_store

ANSWER = 10
"""Seconds to connect, and again to receive an answer, unless MLFLOW_HTTP_REQUEST_TIMEOUT is set."""
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
ACCESS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
TRANSIENT = (408, 429)
"""HTTP status codes of refusals that a repeated request may not meet."""
_FROM_HTTP = "API request to "
"""Prefix of errors of `mlflow.utils.rest_utils` without an answer; they have no code, as other errors of MLflow."""
_NO_NAME = "medmrcnn: no experiment has this name"
_STATUS = re.compile(r"failed with error code (\d+)")
_turn = threading.RLock()


class ServerAway(RuntimeError):
    """The tracking server does not answer, and an operation needs it."""


class Undelivered(ServerAway):
    """Everything is done, but records have not been uploaded to the tracking server yet."""


class WrongServer(ConnectionError):
    """The server at the address is not the tracking server that has the run."""


def is_server(tracking_uri: str) -> bool:
    """Return whether an address is that of a server."""
    return urlsplit(tracking_uri).scheme in ("http", "https")


def unreachable(error: BaseException) -> bool:
    """Return whether `error` means that the server or its proxy is unreachable, busy or broken.

    A refusal is none of these. The request may have been processed nevertheless.
    """
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _passes(error.response.status_code)
    if isinstance(error, requests.RequestException | ConnectionError | TimeoutError):
        return True
    if isinstance(error, MlflowException):
        if found := _STATUS.search(str(error)):
            return _passes(int(found[1]))
        of_server = isinstance(error, RestException) or str(error).startswith(_FROM_HTTP)
        return of_server and _passes(error.get_http_status_code())
    return False


def _passes(status: int) -> bool:
    return status >= 500 or status in TRANSIENT


@contextmanager
def one_attempt(*, large: bool = False) -> Iterator[None]:
    """Make MLflow send each request once with a short time limit, or its own for the upload of a `large` file.

    By default it repeats a request for minutes, and a repeated request whose answer was lost is processed twice.
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
    """Send a request to the tracking server, or create the tables of a missing local store.

    Raises:
        InputError: the server does not answer, refuses access, or is no tracking server; the file cannot be written.
    """
    address = mlflow.get_tracking_uri()
    if not is_server(address):
        require_writable_store()
        make_store()
        return
    try:
        with one_attempt():
            # A server that answers `{}` to everything returns an experiment with another name.
            found = MlflowClient().get_experiment_by_name(_NO_NAME)
        if found is not None and found.name != _NO_NAME:
            raise WrongServer("HTTP 200")
    except (MlflowException, requests.RequestException, WrongServer) as error:
        raise InputError(f"MLFLOW_TRACKING_URI={hide_credentials(address)}: {_problem(error)}") from error


def _problem(error: Exception) -> str:
    if (status := denied(error)) is not None:
        return f"the tracking server refuses access (HTTP {status}); {ACCESS}"
    if isinstance(error, MlflowException) and (answer := _answer(error)) is not None:
        error = WrongServer(answer)
    if isinstance(error, WrongServer):
        return f"no MLflow tracking server answers there ({error}); start it, or correct the address or the port"
    return f"the tracking server does not answer ({reason(error)}); start it, or name another store"


def _answer(error: MlflowException) -> str | None:
    """Describe an answer that is not in MLflow's protocol.

    None without an answer, for one of an MLflow server, or of a proxy that reports that the server is unreachable.
    """
    text = str(error)
    if found := _STATUS.search(text):
        return None if _passes(int(found[1])) else f"HTTP {found[1]}"
    if "not in a valid JSON format" in text:
        return "HTTP 200, but no JSON"
    if isinstance(error, RestException) and "error_code" not in error.json:
        return text.splitlines()[0][:200]
    return None


def denied(error: BaseException) -> int | None:
    """Return the HTTP status 401 or 403 of an answer that requests a user, password or token; None for other errors."""
    status = None
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    elif isinstance(error, MlflowException):
        found = _STATUS.search(str(error))
        if found or isinstance(error, RestException):
            status = int(found[1]) if found else error.get_http_status_code()
    return status if status in (401, 403) else None


def require_run(client: MlflowClient, run_id: str) -> None:
    """Check the id of the run in the answer of the server.

    After an outage another server may use the port and answer `{}` to every request, which is how MLflow confirms a
    record.

    Raises:
        WrongServer: another id, or an answer that is not MLflow's. Other errors are those of the client.
    """
    try:
        with one_attempt():
            found = client.get_run(run_id).info.run_id
    except RestException:
        raise
    except MlflowException as error:
        if denied(error) is None and (answer := _answer(error)) is not None:
            raise WrongServer(f"{answer} from something else at its address") from error
        raise
    if found != run_id:
        raise WrongServer("something else answers at its address")


def reason(error: BaseException) -> str:
    """Describe in a few words, without the address, why there was no answer."""
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
