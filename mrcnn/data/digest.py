"""SHA-256 digests of files; what was found in files, cached under them."""

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
"""Nanoseconds since the last change of a file from which its time stamp stands for its content. No file system's time
is coarser than this; a file may change again within one step of that time and keep its stamp."""

Stamp = tuple[int, int, int, int]  # size, time of the last change of the content, of the inode, number of the inode
_remembered: dict[str, tuple[Stamp, str]] = {}


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes. Raises `InputError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def digest_of(files: Iterable[Path]) -> str:
    """SHA-256 (hex) over the bytes of several files, in their order."""
    return _joined(file_digest(path) for path in files)


def content_digest(path: Path) -> str:
    """As `file_digest`, of a file that is read again only where size, inode or a time of change differ from then.

    The file system's word is taken for data sets alone: what must be proved, such as a checkpoint, takes `file_digest`.
    """
    before, begun = _stamp(path), time.time_ns()
    name = _name(path)
    stamp, digest = _remembered.get(name, (None, ""))
    if before is None or stamp != before:
        digest = file_digest(path)
        if before is not None and before == _stamp(path) and max(before[1:3]) < begun - _SETTLED:
            _remembered[name] = (before, digest)
    return digest


def content_digest_of(files: Iterable[Path]) -> str:
    """As `digest_of`, with `content_digest`."""
    return _joined(content_digest(path) for path in files)


@contextmanager
def remembered_digests(cache: Path | None, paths: Sequence[Path]) -> Iterator[None]:
    """Within the body `content_digest` of `paths` knows what it knew in an earlier run.

    Args:
        cache: folder of these memories; None for none. File names are not in them.
    """
    if cache is None or not paths:
        yield
        return
    names = {_name(path) for path in paths}
    file = cache / f"digests-{key_of(paths)}.json"
    known = _load(file)
    for name in names & known.keys():
        _remembered.setdefault(name, known[name])
    yield
    now = {name: _remembered[name] for name in names if name in _remembered}
    if now != known:
        save_json(file, {name: [*stamp, digest] for name, (stamp, digest) in now.items()})


def key_of(paths: Sequence[Path]) -> str:
    """What a cache calls the data set of these files, which may change: a digest of the folder above all of them."""
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths}
    return hashlib.sha256(os.path.commonpath(folders).encode("utf-8", "surrogateescape")).hexdigest()[:32]


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
    """The stamps and digests of `file`; nothing where there is none or it is damaged."""
    try:
        return {name: (tuple(map(int, stamp)), str(digest)) for name, (*stamp, digest) in load_json(file).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def load_json(file: Path) -> Any:
    """What `save_json` wrote into a cache; None where there is nothing or it is damaged."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


def save_json(file: Path, held: Any) -> None:
    """Writes a file of a cache, if that can be: it would only save time."""
    with suppress(OSError), _draft(file) as draft:
        draft.write_text(json.dumps(held), encoding="ascii")


def load_arrays(file: Path | None) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote into a cache; nothing where there is none or it is damaged."""
    if file is None:
        return {}
    try:
        with np.load(file) as held:
            return dict(held)
    except (OSError, ValueError, EOFError, LookupError, zlib.error, zipfile.BadZipFile):
        return {}


def save_arrays(file: Path | None, **arrays: np.ndarray) -> None:
    """As `save_json`, of arrays; None writes nothing."""
    if file is not None:
        with suppress(OSError), _draft(file) as draft:
            np.savez_compressed(draft, **arrays)


@contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """A path beside `file`, renamed to it after the body, so that another process never meets half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.stem[:8]}-") as scratch:
        yield (draft := Path(scratch) / file.name)
        draft.replace(file)
