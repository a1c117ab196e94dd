"""Compute SHA-256 digests of files, and read and write cache files atomically."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.errors import InputError

_SETTLED = 2_000_000_000
"""Minimum age of a file in nanoseconds for its time stamp to identify its content. A file may change twice within one
tick of the file system's clock and keep its time stamp; no file system has a coarser tick."""

Stamp = tuple[int, int, int, int]  # size, mtime_ns, ctime_ns, inode number
_known_digests: dict[str, tuple[Stamp, str]] = {}


def file_digest(path: Path) -> str:
    """Compute the SHA-256 (hex) of a file. Raises `InputError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def files_digest(files: Iterable[Path]) -> str:
    """Compute one SHA-256 (hex) of several files, in their order."""
    return _joined(file_digest(path) for path in files)


def cached_file_digest(path: Path) -> str:
    """Compute a digest like `file_digest`, but read the file again only if its size, inode or time stamps changed.

    For data sets only: a checkpoint, whose content must be verified, needs `file_digest`.
    """
    before, begun = _stamp(path), time.time_ns()
    name = _name(path)
    stamp, digest = _known_digests.get(name, (None, ""))
    if before is None or stamp != before:
        digest = file_digest(path)
        if before is not None and before == _stamp(path) and max(before[1:3]) < begun - _SETTLED:
            _known_digests[name] = (before, digest)
    return digest


def cached_files_digest(files: Iterable[Path]) -> str:
    """Compute a digest like `files_digest` with `cached_file_digest`."""
    return _joined(cached_file_digest(path) for path in files)


@contextmanager
def digest_cache(cache: Path | None, paths: Sequence[Path]) -> Iterator[None]:
    """Load the digests of `paths` from an earlier run, and save them after the body, in the folder `cache` if any.

    The cache files contain no file names.
    """
    if cache is None or not paths:
        yield
        return
    names = {_name(path) for path in paths}
    file = cache / f"digests-{dataset_key(paths)}.json"
    known = _load(file)
    for name in names & known.keys():
        _known_digests.setdefault(name, known[name])
    yield
    now = {name: _known_digests[name] for name in names if name in _known_digests}
    if now != known:
        save_json(file, {name: [*stamp, digest] for name, (stamp, digest) in now.items()})


def dataset_key(paths: Sequence[Path]) -> str:
    """Return the cache key of a data set whose files may change: a digest of their common parent folder."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    return hashlib.sha256(os.path.commonpath(folders).encode("utf-8", "surrogateescape")).hexdigest()[:32]


@contextmanager
def required_cache(folder: Path) -> Iterator[None]:
    """Raise `InputError`, with the remedy, if the cache `folder` cannot be written in the body."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); set MRCNN_CACHE to another folder"
        ) from error


def _joined(digests: Iterable[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _name(path: Path) -> str:
    return hashlib.sha256(os.path.abspath(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _load(file: Path) -> dict[str, tuple[Stamp, str]]:
    """Load stamps and digests; an empty dict if the file is missing or damaged."""
    try:
        return {
            name: ((int(size), int(modified), int(changed), int(inode)), str(digest))
            for name, (size, modified, changed, inode, digest) in load_json(file).items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def load_json(file: Path) -> Any:
    """Load a cache file of `save_json`; None if it is missing or damaged."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def save_json(file: Path, content: Any) -> None:
    """Write a cache file as JSON; ignore errors of the file system, since a cache only saves time."""
    with suppress(OSError), write_whole(file) as draft:
        draft.write_text(json.dumps(content), encoding="ascii")


def load_arrays(file: Path | None) -> dict[str, np.ndarray]:
    """Load a cache file of `save_arrays`; an empty dict if `file` is None, missing or damaged."""
    if file is None:
        return {}
    try:
        with np.load(file) as content:
            return dict(content)
    except (OSError, ValueError, EOFError, LookupError, zlib.error, zipfile.BadZipFile):
        return {}


def save_arrays(file: Path | None, **arrays: np.ndarray) -> None:
    """Write arrays to a cache file like `save_json`; do nothing if `file` is None."""
    if file is not None:
        with suppress(OSError), write_whole(file) as draft:
            np.savez_compressed(draft, **arrays)  # pyright: ignore[reportArgumentType] - taken for allow_pickle


@contextmanager
def write_whole(file: Path) -> Iterator[Path]:
    """Yield a temporary path and rename it to `file` after the body, so that no process reads a partial file.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.stem[:8]}-") as scratch:
        yield (draft := Path(scratch) / file.name)
        draft.replace(file)
