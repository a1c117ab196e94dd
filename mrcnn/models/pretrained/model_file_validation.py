"""Validate untrusted model and weight files before loading.

Keras's safe mode executes nothing in a file, but it constructs any Keras layer that the file names, and allocates up to
4 GiB for declared sizes. The checks here run before anything is constructed or read in full.
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
_MAX_EXPANSION, _ALLOWANCE = 20, 16 << 20
"""Largest ratio of content to bytes on disk, beyond an allowance in bytes; trained weights hardly compress."""
_MAX_CONFIG_BYTES = 1 << 20
_MAX_OBJECTS = 100_000


class UnexpectedModel(ValueError):
    """A file contains a model of another class than expected."""


def check_archive(archive: zipfile.ZipFile) -> None:
    """Check that the members of a ZIP archive are unique and not much larger than the file.

    Raises:
        ValueError: they are not.
    """
    members = archive.infolist()
    if len({member.filename for member in members}) != len(members) or len(members) > _MAX_OBJECTS:
        raise ValueError("members of its archive stand twice, or are too many")
    size, stored = sum(member.file_size for member in members), sum(member.compress_size for member in members)
    if size > _MAX_EXPANSION * stored + _ALLOWANCE:
        raise ValueError(f"its archive of {stored:,} bytes unpacks to {size:,}")


def validated_model_config(archive: zipfile.ZipFile, kinds: Collection[str]) -> dict[str, Any]:
    """Read and validate the configuration in a `.keras` archive of one of the classes named `kinds`.

    Raises:
        KeyError: a member is missing.
        UnexpectedModel: it is a model of another class.
        ValueError: it is not a model of this project, or contains other members.
    """
    check_archive(archive)
    if others := sorted({member.filename for member in archive.infolist()} - _MEMBERS):
        raise ValueError(f"holds {others[0]!r}; expected {', '.join(sorted(_MEMBERS))} alone")
    if archive.getinfo(CONFIG).file_size > _MAX_CONFIG_BYTES:
        raise ValueError(f"{CONFIG} has {archive.getinfo(CONFIG).file_size:,} bytes; expected a model's")
    described = json.loads(archive.read(CONFIG))
    if not isinstance(described, dict) or not isinstance(described.get("config"), dict):
        raise ValueError(f"{CONFIG}: expected the description of a model")
    kind = described.get("class_name")
    if kind not in kinds or described.get("registered_name") != f"{_PACKAGE}>{kind}":
        raise UnexpectedModel(f"holds a {str(kind)[:60]}, expected a {' or a '.join(sorted(kinds))}")
    arguments = described["config"]
    if not _is_plain({**arguments, "dtype": None}) or not _is_policy(arguments.get("dtype")):
        raise ValueError(f"{CONFIG}: names objects within the {kind}; expected numbers and texts")
    return described


def _is_plain(value: Any) -> bool:
    """Return whether data from JSON contain nothing that Keras would deserialize to an object."""
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


def _is_policy(value: Any) -> bool:
    """Return whether data from JSON are a dtype policy."""
    if not isinstance(value, dict):
        return value is None or isinstance(value, str)
    name = value["config"].get("name") if isinstance(value.get("config"), dict) else None
    return (value.get("module"), value.get("class_name")) == ("keras", "DTypePolicy") and isinstance(name, str)


def check_hdf5(file: h5py.File) -> None:
    """Check that an HDF5 file has no links and contains the arrays that it declares.

    Raises:
        ValueError: it does not.
    """
    root: Any = file["/"]
    waiting, seen = [root], set()
    while waiting:
        group = waiting.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"[:200]
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where} is a link; expected what it leads to")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr  # pyright: ignore[reportAttributeAccessIssue] - no stub of h5o
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > _MAX_OBJECTS:
                raise ValueError(f"holds more than {_MAX_OBJECTS:,} groups and arrays")
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _check_array(item, where)


def _check_array(array: h5py.Dataset, where: str) -> None:
    if array.external or array.is_virtual:
        raise ValueError(f"{where} stands in another file; expected it in this one")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{where} holds {array.dtype}; expected numbers")
    if array.nbytes > _MAX_EXPANSION * array.id.get_storage_size() + _ALLOWANCE:
        raise ValueError(f"{where} states {array.nbytes:,} bytes, {array.id.get_storage_size():,} are there")
