"""Create and read the secret salt of patient pseudonyms, per machine or shared by a team."""

from __future__ import annotations

import os
import secrets
from functools import lru_cache
from pathlib import Path

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError

VARIABLE = "MRCNN_PATIENT_SALT"
MIN_LENGTH = 16
"""Minimum length of the variable in characters; shorter secrets could be guessed."""
_FILE = "patient-salt"


def patient_salt() -> bytes:
    """Return `$MRCNN_PATIENT_SALT` if set, otherwise the content of `<cache folder>/patient-salt`.

    The file is created on first use with 32 random bytes, readable by its owner only; concurrent processes agree on
    one secret. The same variable on several machines gives the same pseudonyms; splits and digests of data sets do not
    depend on it.

    Raises:
        InputError: the variable is too short, or the file cannot be created or read.
    """
    salt = os.environ.get(VARIABLE)
    if salt:
        if len(salt) < MIN_LENGTH:
            raise InputError(
                f"{VARIABLE}: expected at least {MIN_LENGTH} characters, as `openssl rand -hex 32` makes them"
            )
        return salt.encode("utf-8", "surrogateescape")
    return _read_salt(cache_folder() / _FILE)


@lru_cache(maxsize=8)
def _read_salt(path: Path) -> bytes:
    try:
        if not path.exists():
            _create_salt(path)
        text = path.read_text(encoding="ascii")
        salt = bytes.fromhex(text)
    except OSError as error:
        raise InputError(
            f"{path}: the secret of patients' pseudonyms can be neither read nor made ({error.strerror}); "
            f"set {VARIABLE}, or MRCNN_CACHE to another folder"
        ) from error
    except ValueError:  # its message would quote the secret
        salt = b""
    if len(salt) != 32:
        raise InputError(f"{path}: expected 64 hexadecimal digits; delete it to have a new secret, and new pseudonyms")
    return salt


def _create_salt(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        # Unlike renaming, linking does not replace a secret that another process has created.
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
