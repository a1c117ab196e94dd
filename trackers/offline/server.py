"""Whether a tracking server answers, and what an error says of that."""

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
"""Seconds for taking a connection, and again for an answer, unless MLFLOW_HTTP_REQUEST_TIMEOUT says otherwise."""
RETRIES, TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
ACCESS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
NOW_AND_THEN = (408, 429)
"""Of the answers that blame the request, those that the same request may not meet again."""
_FROM_HTTP = "API request to "
"""How `mlflow.utils.rest_utils` begins where there was no answer; MLflow's errors of its own have no code either."""
_NO_NAME = "medmrcnn: no experiment has this name"
_STATUS = re.compile(r"failed with error code (\d+)")
_turn = threading.RLock()


class ServerAway(RuntimeError):
    """The tracking server does not answer, and something could not be done without it."""


class Undelivered(ServerAway):
    """All was done, but the tracking server does not know of it yet."""


class WrongServer(ConnectionError):
    """What answers at the address is not the tracking server that has the run."""


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
        if found := _STATUS.search(str(error)):
            return _passes(int(found[1]))
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
    """Request one thing of the tracking server; make the tables of a store in a file that is not there yet.

    Raises:
        InputError: it does not answer, refuses access, or is no tracking server; the file cannot be written.
    """
    address = mlflow.get_tracking_uri()
    if not is_server(address):
        require_writable_store()
        make_store()
        return
    try:
        with one_attempt():
            # Whatever answers `{}` to everything has an experiment of this name, which is called something else.
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
    """What something answered that does not speak MLflow's protocol; None where there was no answer, or one of an
    MLflow server, or of a proxy before it that says that the server is away."""
    text = str(error)
    if found := _STATUS.search(text):
        return None if _passes(int(found[1])) else f"HTTP {found[1]}"
    if "not in a valid JSON format" in text:
        return "HTTP 200, but no JSON"
    if isinstance(error, RestException) and "error_code" not in error.json:
        return text.splitlines()[0][:200]
    return None


def denied(error: BaseException) -> int | None:
    """Return the HTTP status 401 or 403 of an answer that asks for a user, password or token; None for other errors."""
    status = None
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
    elif isinstance(error, MlflowException):
        found = _STATUS.search(str(error))
        if found or isinstance(error, RestException):
            status = int(found[1]) if found else error.get_http_status_code()
    return status if status in (401, 403) else None


def require_run(client: MlflowClient, run_id: str) -> None:
    """Compare the id of the run in the server's answer.

    After an outage something else may listen on the server's port, and may answer `{}` to every request, which is how
    MLflow says that it has taken a record.

    Raises:
        WrongServer: another id, or an answer that is not MLflow's. Otherwise what the client raises.
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
