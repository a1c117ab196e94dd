"""Report errors of a disk in one line with the folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mrcnn.cache_folder import cache_folder
from mrcnn.errors import InputError
from trackers.runs.local_store import store_place

REFUSED = {
    code: os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
}
OF_SQLITE = ("database or disk is full", "attempt to write a readonly database", "unable to open database file",
             "disk I/O error")  # fmt: skip
OF_PYTHON = "No usable temporary directory"
LITTLE = 16 << 20
"""Bytes; folders with less free space are named if an error does not name the full one."""


class DiskRefused(RuntimeError):
    """A disk is full or cannot be written, which ended the work."""


@contextmanager
def written_to(folder: Path | str) -> Iterator[None]:
    """Add `folder` to errors of a disk in the body that name no file."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED and error.filename is None:
            error.filename = str(folder)
        raise


def disk_problem(error: BaseException, folders: Iterable[Path | str] = ()) -> str | None:
    """Return `<folder>: <reason>` for an error of a disk; None if `error` and its causes are of another kind.

    Args:
        error: any exception, with its causes.
        folders: written folders other than the working folder, the cache, the store and the temporary folder.
    """
    if isinstance(error, InputError | DiskRefused):
        return None
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, OSError) and each.errno in REFUSED and (name := each.filename2 or each.filename):
            return f"{os.fsdecode(name)}: {REFUSED[each.errno]}"
    for each in chain:
        text = str(each)
        if OF_PYTHON in text:
            return f"{text.partition('] ')[2] or text}: set TMPDIR to a folder that can be written"
        found = [reason for reason in (*REFUSED.values(), *OF_SQLITE) if reason in text]
        if found:
            return f"{_place(folders)}: {found[0]}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _place(folders: Iterable[Path | str]) -> str:
    """Return the folders with little free space, or all folders if none has."""
    found: dict[Path, int] = {}
    store = store_place()
    places = [*folders, Path.cwd(), cache_folder(), *([] if store is None else [store.parent])]
    with suppress(OSError):  # none can be written
        places.append(tempfile.gettempdir())
    for place in map(Path, places):
        there = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
        found[there] = shutil.disk_usage(there).free
    full = [place for place, free in found.items() if free < LITTLE] or list(found)
    return " or ".join(map(str, full))
