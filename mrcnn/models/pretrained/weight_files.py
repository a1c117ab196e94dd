"""Read weight files as arrays without executing anything: HDF5 of Keras 2 and 3, `.keras`, safetensors and npz."""

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
"""Arrays by layer and weight: "kernel", "bias", "gamma", … from Keras 2; "0", "1", … in the order of Keras 3."""

_SAFETENSORS_TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_MAX_HEADER_BYTES = 100_000_000
UNREADABLE = (
    ValueError, KeyError, OSError, RuntimeError, AttributeError, NotImplementedError, EOFError, MemoryError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
"""Exceptions of the libraries for damaged and malicious files."""


def read_hdf5(path: Path) -> Layers:
    """Read the layers of an HDF5 file of Keras 2 or 3.

    Raises:
        InputError: it is not an HDF5 file of Keras.
    """
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file)
            return _layers(file, path)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable HDF5 file: {one_line(error)}") from error


def read_keras(path: Path) -> tuple[Layers, dict[str, Any]]:
    """Read the layers and the configuration of the `MaskRCNN` in a `.keras` file.

    Raises:
        InputError: it is not a `.keras` file, or contains another model.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = validated_model_config(archive, {"MaskRCNN"})["config"]["config"]
            ModelConfig.model_validate(described)
            with open_weights(archive) as file:
                return _layers(file, path), described
    except InputError:
        raise
    except UnexpectedModel as error:
        raise InputError(f"{path}: {error}") from error
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable .keras model: {one_line(error)}") from error


def open_weights(archive: zipfile.ZipFile) -> h5py.File:
    """Open and validate the HDF5 file in a `.keras` archive.

    Raises:
        UNREADABLE: it is damaged or not allowed.
    """
    file = h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r")
    try:
        check_hdf5(file)
    except BaseException:
        file.close()
        raise
    return file


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _layers(file: h5py.File, path: Path) -> Layers:
    root: Any = file.get("model_weights", file)
    layers = _keras2(root) if "layer_names" in root.attrs else _keras3(root)
    if not layers:
        raise InputError(f"{path}: no layer with weights; expected an HDF5 file that Keras wrote")
    return layers


def _keras2(root: h5py.Group) -> Layers:
    """Read a group per layer with weights at `<layer>/<weight>:0`; layers of a nested model have their own names."""
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
    """Read the numbered datasets of groups `vars`, which have the layer's name; skip those of an optimizer."""
    layers: Layers = {}

    def collect(name: str, item: Any) -> None:
        is_layer = isinstance(item, h5py.Group) and name.endswith("/vars") and not name.startswith("optimizer/")
        if is_layer and "name" in item.attrs and len(item):
            variables: Any = item  # h5py does not know which members are datasets
            layers[variables.attrs["name"]] = {key: variables[key][()] for key in sorted(variables, key=int)}

    root.visititems(collect)
    return layers


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an `.npz` file by name, without unpickling.

    Raises:
        InputError: it is not such a file, or contains Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive)
            for member in archive.infolist():
                _check_header(archive, member)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npz file of arrays: {one_line(error)}") from error


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check that an array is not larger than its member of the archive, because NumPy allocates its size first.

    Raises:
        ValueError: it is larger, or contains Python objects.
    """
    with archive.open(member) as file:
        major = np.lib.format.read_magic(file)[0]
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    if kind.hasobject or math.prod(shape) * kind.itemsize > member.file_size:
        raise ValueError(f"{member.filename} states {kind} of shape {shape} in {member.file_size:,} bytes")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a safetensors file by name; bfloat16 becomes float32.

    Format (https://github.com/huggingface/safetensors): the length of the header in 8 bytes, the header as JSON with
    the type, shape and offsets of each tensor, then the data.

    Raises:
        InputError: the file is damaged or contains an unsupported type.
    """
    raw = path.read_bytes()
    try:
        length = int.from_bytes(raw[:8], "little")
        if length > min(len(raw) - 8, _MAX_HEADER_BYTES):
            raise ValueError("its header is longer than the file")
        header = json.loads(raw[8 : 8 + length])
        body = memoryview(raw)[8 + length :]
        return {name: _tensor(entry, body) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {one_line(error)}") from error


def _tensor(entry: dict[str, Any], body: memoryview) -> np.ndarray:
    start, end = entry["data_offsets"]
    if entry["dtype"] == "BF16":
        # bfloat16 is the upper half of a float32.
        bits = np.frombuffer(body[start:end], "<u2").astype(np.uint32) << 16
        return bits.view(np.float32).reshape(entry["shape"])
    if entry["dtype"] not in _SAFETENSORS_TYPES:
        raise ValueError(f"type {entry['dtype']} is not supported")
    kind = np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]).newbyteorder("<")
    return np.frombuffer(body[start:end], kind).reshape(entry["shape"])
