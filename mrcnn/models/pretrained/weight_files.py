"""Weight files as plain arrays: HDF5 of Keras 2 and 3, `.keras`, safetensors and npz. Nothing in them is executed."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.models.pretrained.model_file_validation import (
    WEIGHTS,
    UnexpectedModel,
    check_archive,
    check_hdf5,
    validated_model_config,
)

Layers = dict[str, dict[str, np.ndarray]]
"""By layer, then by weight: "kernel", "bias", "gamma", … from Keras 2; "0", "1", … in Keras 3's order."""

_SAFETENSORS_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000
UNREADABLE = (
    ValueError, KeyError, OSError, RuntimeError, AttributeError, NotImplementedError, EOFError, MemoryError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""What the libraries raise on damaged files, those that were made so by somebody included."""


def read_hdf5(path: Path) -> Layers:
    """The layers of an HDF5 file of Keras 2 or 3.

    Raises:
        InputError: it is no HDF5 file, or not one of Keras.
    """
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file)
            return _layers(file, path)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable HDF5 file: {in_one_line(error)}") from error


def read_keras(path: Path) -> tuple[Layers, dict[str, Any]]:
    """The layers of a `.keras` file, and the configuration of the `MaskRCNN` in it.

    Raises:
        InputError: it is no `.keras` file, or holds another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = validated_model_config(archive, {"MaskRCNN"})["config"]["config"]
            ModelConfig.model_validate(described)
            with weights_of(archive) as file:
                return _layers(file, path), described
    except InputError:
        raise
    except UnexpectedModel as error:
        raise InputError(f"{path}: {error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable .keras model: {in_one_line(error)}") from error


def weights_of(archive: zipfile.ZipFile) -> h5py.File:
    """The checked HDF5 file in a `.keras` archive, opened. Raises one of `UNREADABLE`."""
    file = h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r")
    try:
        check_hdf5(file)
    except BaseException:
        file.close()
        raise
    return file


def in_one_line(error: BaseException) -> str:
    """What an error says, in one line of no more than 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _layers(file: h5py.File, path: Path) -> Layers:
    root = file["model_weights"] if "model_weights" in file else file
    layers = _keras2(root) if "layer_names" in root.attrs else _keras3(root)
    if not layers:
        raise InputError(f"{path}: no layer with weights; expected an HDF5 file that Keras wrote")
    return layers


def _keras2(root: h5py.Group) -> Layers:
    """A group per layer, its weights at `<layer>/<weight>:0`; those of a model within it under their own names."""
    layers: Layers = {}
    for group_name, group in root.items():
        found = []
        group.visititems(lambda name, item, found=found: found.append((name, item)))
        weights = [(name.split("/"), item) for name, item in found if isinstance(item, h5py.Dataset)]
        order = [name.decode() if isinstance(name, bytes) else name for name in group.attrs.get("weight_names", ())]
        weights.sort(key=lambda each: order.index("/".join(each[0])) if "/".join(each[0]) in order else len(order))
        nested = len({tuple(parts[:-1]) for parts, _ in weights}) > 1
        for parts, item in weights:
            layer = parts[-2] if nested else group_name
            layers.setdefault(layer, {})[parts[-1].partition(":")[0]] = item[()]
    return layers


def _keras3(root: h5py.Group) -> Layers:
    """Weights in numbered datasets of groups `vars`, which carry the layer's name; an optimizer's are left out."""
    layers: Layers = {}

    def collect(name, item):
        if isinstance(item, h5py.Group) and name.endswith("/vars") and "name" in item.attrs and len(item):
            if not name.startswith("optimizer/"):
                layers[item.attrs["name"]] = {key: item[key][()] for key in sorted(item, key=int)}

    root.visititems(collect)
    return layers


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name, never unpickled.

    Raises:
        InputError: it is no such file, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive)
            for member in archive.infolist():
                _check_header(archive, member)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npz file of arrays: {in_one_line(error)}") from error


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raises `ValueError` where an array states more than it holds: NumPy would make room for it first."""
    with archive.open(member) as file:
        major = np.lib.format.read_magic(file)[0]
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    if kind.hasobject or math.prod(shape) * kind.itemsize > member.file_size:
        raise ValueError(f"{member.filename} states {kind} of shape {shape} in {member.file_size:,} bytes")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name; bfloat16 as float32.

    The form (https://github.com/huggingface/safetensors): length of the header in 8 bytes, the header in JSON with
    type, shape and place of each tensor, then the bytes.

    Raises:
        InputError: the file is damaged, or of a type that is not supported.
    """
    raw = path.read_bytes()
    try:
        length = int.from_bytes(raw[:8], "little")
        if length > min(len(raw) - 8, _LONGEST_HEADER):
            raise ValueError("its header is longer than the file")
        header = json.loads(raw[8 : 8 + length])
        body = memoryview(raw)[8 + length :]
        return {name: _tensor(entry, body) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {in_one_line(error)}") from error


def _tensor(entry: dict[str, Any], body: memoryview) -> np.ndarray:
    start, end = entry["data_offsets"]
    if entry["dtype"] == "BF16":
        # The upper half of a float32.
        bits = np.frombuffer(body[start:end], "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(entry["shape"])
    if entry["dtype"] not in _SAFETENSORS_TYPES:
        raise ValueError(f"type {entry['dtype']} is not supported")
    kind = np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]).newbyteorder("<")
    return np.frombuffer(body[start:end], kind).reshape(entry["shape"])
