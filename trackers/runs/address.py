"""Format addresses of runs and stores without passwords."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

PORT = 5000
SQLITE = "sqlite:///"
_SECRET = re.compile(
    r"([?&;](?:[\w-]*(?:password|passwd|pwd|token|secret|signature|sig|key|credential))=)[^&;\s\"'<>]*", re.IGNORECASE
)


def hide_credentials(text: str) -> str:
    """Replace user, password or token in all addresses in `text` by `***`.

    Files and SQLite have none, and their paths may contain an @. Passwords often contain characters that should have
    been escaped, so everything up to the last @ of an address is replaced.
    """
    text = re.sub(r"(?<![\w+.-])(?!sqlite|file)([a-zA-Z][\w+.-]*://)[^\s\"'<>]*@", r"\1***@", text)
    return _SECRET.sub(r"\1***", text)


def without_credentials(address: str) -> str:
    """Return the address of a server without user, password and token."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))


def run_url(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the address of the page of a run, on the tracking server or with `mlflow ui` of `how_to_open`."""
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        server = without_credentials(tracking_uri)
    else:
        server = f"http://127.0.0.1:{PORT}"
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"


def how_to_open(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """Return the command that shows this store in a browser, or for a tracking server the address of the run.

    The path of a SQLite file is made absolute, so that the command works in any folder. A database address with a
    password is replaced by its variable, so that the command can be printed and works.
    """
    if urlsplit(tracking_uri).scheme in ("http", "https"):
        return run_url(tracking_uri, experiment_id, run_id)
    if hide_credentials(tracking_uri) != tracking_uri:
        store = '"$MLFLOW_TRACKING_URI"'
    else:
        scheme, file = tracking_uri[: len(SQLITE)], tracking_uri[len(SQLITE) :]
        store = shlex.quote(scheme + str(Path(file).absolute()) if scheme == SQLITE else tracking_uri)
    return f"mlflow ui --backend-store-uri {store} --port {PORT}"
