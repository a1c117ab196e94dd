"""What a model's or weights' file of a stranger may hold. Looked at before anything in it is built or read whole.

Keras's safe mode executes nothing, but builds any layer of Keras that a file names before it can be told that the model
is none of ours, and takes sizes up to 4 GiB as they are stated.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection
from typing import Any

import h5py

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", CONFIG, WEIGHTS}
_PACKAGE = "mrcnn"
_EXPANSION, _FREE = 20, 16 << 20
"""Content may be so many times as large as what stands on the disk for it, beyond what is free; numbers that were
learned hardly compress."""
_LONGEST_CONFIG = 1 << 20
_MOST_OBJECTS = 100_000


class UnexpectedModel(ValueError):
    """A file holds a model of another kind than was asked for."""


def check_archive(archive: zipfile.ZipFile) -> None:
    """Raises `ValueError` where the members of a ZIP archive would unpack to far more than the file."""
    members = archive.infolist()
    if len({member.filename for member in members}) != len(members) or len(members) > _MOST_OBJECTS:
        raise ValueError("members of its archive stand twice, or are too many")
    size, stored = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    if size > _EXPANSION * stored + _FREE:
        raise ValueError(f"its archive of {stored:,} bytes unpacks to {size:,}")


def validated_model_config(archive: zipfile.ZipFile, kinds: Collection[str]) -> dict[str, Any]:
    """The configuration in a `.keras` archive, of a model of one of `kinds`, classes of this project.

    Raises:
        KeyError: a part of a model is missing.
        OtherModel: it is a model of another kind.
        ValueError: it is no such model, or holds more than one does.
    """
    check_archive(archive)
    if others := sorted({member.filename for member in archive.infolist()} - _MEMBERS):
        raise ValueError(f"holds {others[0]!r}; expected {', '.join(sorted(_MEMBERS))} alone")
    if archive.getinfo(CONFIG).file_size > _LONGEST_CONFIG:
        raise ValueError(f"{CONFIG} has {archive.getinfo(CONFIG).file_size:,} bytes; expected a model's")
    described = json.loads(archive.read(CONFIG))
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise ValueError(f"{CONFIG}: expected the description of a model")
    kind = described.get("class_name")
    if kind not in kinds or described.get("registered_name") != f"{_PACKAGE}>{kind}":
        raise UnexpectedModel(f"holds a {str(kind)[:60]}, expected a {' or a '.join(sorted(kinds))}")
    given = described["config"]
    if not _is_plain({**given, "dtype": None}) or not _is_policy(given.get("dtype")):
        raise ValueError(f"{CONFIG}: names objects within the {kind}; expected numbers and texts")
    return described


def _is_plain(value: Any) -> bool:
    """Whether plain data hold nothing that Keras would make an object of."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "class_name" in each:
                return False
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return True


def _is_policy(given: Any) -> bool:
    if not isinstance(given, dict):
        return given is None or isinstance(given, str)
    name = given.get("config", {}).get("name") if isinstance(given.get("config"), dict) else None
    return (given.get("module"), given.get("class_name")) == ("keras", "DTypePolicy") and isinstance(name, str)


def check_hdf5(file: h5py.File) -> None:
    """Raises `ValueError` where an HDF5 file leads out of itself, or states arrays that are not in it."""
    waiting, seen = [file["/"]], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"[:200]
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where} is a link; expected what it leads to")
            item = group[name]
            mark = h5py.h5o.get_info(item.id).addr
            if mark in seen:
                continue
            seen.add(mark)
            if len(seen) > _MOST_OBJECTS:
                raise ValueError(f"holds more than {_MOST_OBJECTS:,} groups and arrays")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_array(item, where)


def _check_array(array: h5py.Dataset, where: str) -> None:
    if array.external or array.is_virtual:
        raise ValueError(f"{where} stands in another file; expected it in this one")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{where} holds {array.dtype}; expected numbers")
    if array.nbytes > _EXPANSION * array.id.get_storage_size() + _FREE:
        raise ValueError(f"{where} states {array.nbytes:,} bytes, {array.id.get_storage_size():,} are there")
