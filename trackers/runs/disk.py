"""What a disk refuses, reported in one line that names the folder."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
"""Bytes; a folder with less room is named where an error does not say which folder was full."""


class DiskRefused(RuntimeError):
    """A disk is full or cannot be written, and the work ended for that."""


@contextmanager
def written_to(folder: Path | str) -> Iterator[None]:
    """Name `folder` in what a disk refuses in the body, where the system does not say which file it was."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED and error.filename is None:
            error.filename = str(folder)
        raise


def disk_problem(error: BaseException, folders: Iterable[Path | str] = ()) -> str | None:
    """Return what a disk refused, as `<folder>: <reason>`; None where `error` and its causes are of another kind.

    Args:
        folders: that were written, beside the working folder, the cache, the store and the temporary folder.
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
    """The folders that have little room; all that may have been meant where none has."""
    found: dict[Path, int] = {}
    store = store_place()
    places = [*folders, Path.cwd(), cache_folder(), *([] if store is None else [store.parent])]
    try:
        places.append(tempfile.gettempdir())
    except OSError:  # none can be written
        pass
    for place in map(Path, places):
        there = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
        found[there] = shutil.disk_usage(there).free
    full = [place for place, free in found.items() if free < LITTLE] or list(found)
    return " or ".join(map(str, full))
