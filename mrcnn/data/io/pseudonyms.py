"""The secret of this machine, or of a team, that keeps patients' pseudonyms from being undone."""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError

VARIABLE = "MRCNN_PATIENT_SALT"
LEAST = 16
"""Characters; fewer could be guessed."""
_FILE = "patient-salt"


def patient_salt() -> bytes:
    """`$MRCNN_PATIENT_SALT` where it is set, otherwise what stands in `<cache folder>/patient-salt`.

    That file is made of 32 random bytes when it is first asked for, and nobody but its owner may read it. Of processes
    that make it at once one succeeds, and all read that one's. Who sets the variable to the same text on several
    machines gets the same pseudonyms there; splits and digests of data sets are the same without.

    Raises:
        InputError: the variable is too short to be a secret, or the file cannot be made or read.
    """
    told = os.environ.get(VARIABLE)
    if told:
        if len(told) < LEAST:
            raise InputError(f"{VARIABLE}: expected at least {LEAST} characters, as `openssl rand -hex 32` makes them")
        return told.encode("utf-8", "surrogateescape")
    return _kept(cache_folder() / _FILE)


@lru_cache(maxsize=8)
def _kept(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        text = path.read_text(encoding="ascii")
        salt = bytes.fromhex(text)
    except OSError as error:
        raise InputError(
            f"{path}: the secret of patients' pseudonyms can be neither read nor made ({error.strerror}); "
            f"set {VARIABLE}, or MRCNN_CACHE to another folder"
        ) from error
    except ValueError:  # which would quote the secret
        salt = b""
    if len(salt) != 32:
        raise InputError(f"{path}: expected 64 hexadecimal digits; delete it to have a new secret, and new pseudonyms")
    return salt


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        # Unlike renaming, this replaces no secret that another process has just made and used.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
