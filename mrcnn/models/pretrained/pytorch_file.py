"""Read the tensors of a PyTorch file of before version 1.6 (`.pth`) without executing anything in it.

The format is a series of pickles (magic number, protocol, system, state dict, storage keys) and the storages in the
order of their keys, each with its number of elements in 8 bytes. Here an interpreter of its own reads the pickles: it
knows the opcodes that a state dict of tensors needs, and stops at every other one. It calls no function that the file
names; the names only stand for tensors and storages.

Source: https://github.com/pytorch/pytorch, `torch/serialization.py`, `_legacy_save`.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mrcnn.errors import InputError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_TYPES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
}
_ORDERED_DICT, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "EMPTY_DICT",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True)
class _Name:
    """A name that the file refers to."""

    text: str


@dataclass(frozen=True)
class _Storage:
    key: str
    type: np.dtype
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pytorch(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict: the tensors by name.

    Raises:
        InputError: it is damaged, or contains anything but tensors.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except OSError as error:
        raise InputError(f"{path}: not readable: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a PyTorch file of tensors alone: {reason}") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if _unpickle(file) != _MAGIC or _unpickle(file) != _PROTOCOL:
        raise ValueError("expected the format of PyTorch before 1.6")
    if not _unpickle(file)["little_endian"]:
        raise ValueError("expected little-endian numbers")
    tensors, keys = _unpickle(file), _unpickle(file)
    if not all(isinstance(each, _Tensor) for each in tensors.values()):
        raise ValueError("expected a dict of tensors")
    types = {each.storage.key: each.storage for each in tensors.values()}
    arrays = {}
    for key in keys:
        storage = types[key]
        size = int.from_bytes(file.read(8), "little")
        raw = file.read(size * storage.type.itemsize) if size == storage.size else b""
        arrays[key] = np.frombuffer(raw, storage.type, count=storage.size)
    return {name: _view(arrays[each.storage.key], each) for name, each in tensors.items()}


def _view(array: np.ndarray, tensor: _Tensor) -> np.ndarray:
    """Return a copy of the elements of a tensor in its storage."""
    ends = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)]
    last = tensor.offset + sum(ends)
    if min((tensor.offset, *tensor.shape, *tensor.strides)) < 0 or (math.prod(tensor.shape) and last >= len(array)):
        raise ValueError(f"a tensor {tensor.shape} exceeds its storage of {len(array)} elements")
    strides = [stride * array.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(array[tensor.offset :], tensor.shape, strides).copy()


def _unpickle(file: BinaryIO) -> Any:
    """Interpret one pickle of plain values, tensors and storages.

    Raises:
        ValueError: it contains anything else.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def pop_to_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in _VALUES:
            stack.append({} if name == "EMPTY_DICT" else _CONSTANTS.get(name, argument))
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else pop_to_mark()
            stack[-1].extend(values)
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("SETITEM", "SETITEMS"):
            values = pop_to_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name == "BINPERSID":
            stack.append(_storage(*stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_make(function, arguments))
        elif name == "BUILD":
            stack.pop()  # the version of each layer
        elif name == "STOP":
            return stack.pop()
        elif name != "PROTO":
            raise ValueError(f"contains {name}; expected tensors alone")
    raise ValueError("ends early")


def _make(function: Any, arguments: tuple) -> Any:
    if function == _Name(_ORDERED_DICT) and arguments == ():
        return {}
    if function == _Name(_TENSOR) and isinstance(arguments[0], _Storage):
        storage, offset, shape, strides = arguments[:4]
        return _Tensor(storage, offset, shape, strides)
    raise ValueError(f"calls {str(getattr(function, 'text', function))[:60]}; expected tensors alone")


def _storage(kind: str, type_name: _Name, key: str, _location: str, size: int, view: Any) -> _Storage:
    if kind != "storage" or view is not None:
        raise ValueError("has a view of a storage; expected whole storages")
    return _Storage(key, _TYPES[type_name.text], size)
