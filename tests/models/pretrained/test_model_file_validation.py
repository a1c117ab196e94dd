"""Test that malicious model and weight files are rejected at once, in one line, with little memory."""

import base64
import io
import json
import marshal
import os
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest

from mrcnn.errors import InputError
from mrcnn.models import load
from mrcnn.models.pretrained.initial_weights import settings_for
from mrcnn.models.pretrained.weight_files import read_hdf5, read_keras, read_npz, read_safetensors

MOST_BYTES, MOST_SECONDS = 200 << 20, 30
PASSWORDS = "/etc/passwd"


@pytest.fixture
def refused(tmp_path):
    """Read a file and check its rejection: one line with its name, fast, with little memory, no code executed."""

    def read(reader, path):
        tracemalloc.start()
        began = time.process_time()
        try:
            with pytest.raises(InputError) as error:
                reader(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < MOST_BYTES and time.process_time() - began < MOST_SECONDS
        said = str(error.value)
        assert "\n" not in said and path.name in said and "root:" not in said and len(said) < 700
        assert not (tmp_path / "mark").exists()
        return said

    return read


def weights(content=None):
    """Return the bytes of an HDF5 file with an array."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        made["layers/conv1/vars/0"] = np.zeros(4, np.float32)
        if content:
            content(made)
    return file.getvalue()


def archive(path, config, members=(), h5=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as made:
        made.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        made.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        made.writestr("model.weights.h5", weights() if h5 is None else h5)
        for name, content in members:
            made.writestr(name, content)
    return path


def ours(**changes):
    """Return the configuration in a valid file of a small Mask R-CNN."""
    config = {"class_names": ["a"], "image_size": 64, "backbone": "small", "fpn_channels": 16, "head_width": 16}
    return {
        "module": "mrcnn.models.mask_rcnn.model",
        "class_name": "MaskRCNN",
        "registered_name": "mrcnn>MaskRCNN",
        "config": {"config": config, "seed": 0, "name": "m", "dtype": "float32"},
        **changes,
    }


def lambda_layer(mark):
    """Return a Lambda layer whose marshalled function creates the file `mark`."""
    code = compile(f"open({str(mark)!r}, 'w')", "made", "eval")
    raw = base64.b64encode(marshal.dumps(code)).decode()
    function = {"class_name": "__lambda__", "config": {"code": raw, "defaults": None, "closure": None}}
    return {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "evil", "function": function},
        "registered_name": None,
    }


def sequential(layer):
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [layer], "build_input_shape": [None, 4]},
        "registered_name": "Sequential",
    }


def call(module, name, mark):
    return {"module": module, "class_name": name, "config": f"touch {mark}", "registered_name": name}


HOSTILE_CONFIGS = {
    "a lambda layer": lambda mark: sequential(lambda_layer(mark)),
    "a lambda alone": lambda mark: lambda_layer(mark)["config"]["function"],
    "os.system": lambda mark: call("os", "system", mark),
    "builtins.eval": lambda mark: call("builtins", "eval", mark),
    "a function of a module": lambda mark: {**call("os", "function", mark), "config": "system"},
    "ours by its registered name alone": lambda mark: ours(
        class_name="__lambda__", config=lambda_layer(mark)["config"]
    ),
    "ours by its class alone": lambda mark: ours(registered_name="builtins>exec", module="builtins"),
    "a lambda in our type": lambda mark: ours(config={**ours()["config"], "dtype": lambda_layer(mark)}),
    "a lambda in our settings": lambda mark: ours(config={**ours()["config"], "name": [lambda_layer(mark)]}),
    "another of Keras's, which reads files": lambda mark: {
        "module": "keras.layers", "class_name": "StringLookup", "registered_name": None,
        "config": {"vocabulary": PASSWORDS},
    },
    "no model": lambda mark: [],
    "nested without end": lambda mark: "[" * 200_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_CONFIGS)
@pytest.mark.parametrize("reader", [load, read_keras, settings_for])
def test_keras_file_with_foreign_classes(refused, tmp_path, name, reader):
    refused(reader, archive(tmp_path / "m.keras", HOSTILE_CONFIGS[name](tmp_path / "mark")))


@pytest.mark.parametrize("size", [{"fpn_channels": 10**9}, {"head_width": 10**6}, {"proposals": 10**12}])
def test_keras_file_with_a_huge_network(refused, tmp_path, size):
    given = ours()
    given["config"]["config"] |= size
    refused(read_keras, archive(tmp_path / "m.keras", given))
    refused(load, archive(tmp_path / "m.keras", given))


def test_members_outside_the_archive(refused, tmp_path):
    (inside := tmp_path / "inside").mkdir()
    for number, name in enumerate(("../mark", "/tmp/../" + str(tmp_path / "mark"), "assets/../../mark")):
        path = archive(inside / f"{number}.keras", ours(), [(name, "x")])
        assert "expected config.json, metadata.json, model.weights.h5 alone" in refused(load, path)
    assert not (tmp_path / "mark").exists() and sorted(path.name for path in inside.iterdir()) == [
        "0.keras", "1.keras", "2.keras",
    ]  # fmt: skip


def test_a_zip_bomb(refused, tmp_path):
    path = archive(tmp_path / "m.keras", ours(), h5=bytes(300 << 20), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    for reader in (load, read_keras):
        assert "unpacks to 314,57" in refused(reader, path)


def test_oversized_config(refused, tmp_path):
    path = archive(tmp_path / "m.keras", json.dumps(ours()) + " " * (2 << 20))
    assert "config.json has" in refused(load, path)


def external_link(file):
    file["layers/conv1/vars/1"] = h5py.ExternalLink(PASSWORDS, "/")


def soft_link(file):
    file["layers/a"] = h5py.SoftLink("/layers/b")
    file["layers/b"] = h5py.SoftLink("/layers/a")


def external_storage(file):
    file.create_dataset("layers/conv1/vars/1", (64,), np.uint8, external=[(PASSWORDS, 0, 64)])


def virtual(file):
    layout = h5py.VirtualLayout((4,), np.float32)
    layout[:] = h5py.VirtualSource(PASSWORDS, "x", (4,))
    file.create_virtual_dataset("layers/conv1/vars/1", layout)


def nothing_there(file):
    file.create_dataset("layers/conv1/vars/1", (1 << 40,), np.float32, chunks=(1 << 20,))


def pressed(file):
    file.create_dataset("layers/conv1/vars/1", data=np.zeros(40 << 20, np.uint8), chunks=(1 << 20,), compression="gzip")


def objects(file):
    file["layers/conv1/vars/1"] = np.array(["a"], h5py.string_dtype())


HOSTILE_ARRAYS = {
    external_link: "is a link", soft_link: "is a link", external_storage: "stands in another file",
    virtual: "stands in another file", nothing_there: "states 4,398,046,511,104 bytes",
    pressed: "states 41,943,040 bytes", objects: "expected numbers",
}  # fmt: skip


@pytest.mark.parametrize("spoil", HOSTILE_ARRAYS)
@pytest.mark.parametrize("keras_2", [False, True])
def test_hdf5_file_with_links_or_missing_data(refused, tmp_path, spoil, keras_2):
    def spoilt(file):
        spoil(file)
        if keras_2:
            file.attrs["layer_names"] = [b"layers"]

    (tmp_path / "w.h5").write_bytes(weights(spoilt))
    assert HOSTILE_ARRAYS[spoil] in refused(read_hdf5, tmp_path / "w.h5")
    path = archive(tmp_path / "m.keras", ours(), h5=weights(spoilt))
    for reader in (load, read_keras):
        assert HOSTILE_ARRAYS[spoil] in refused(reader, path)


def test_cyclic_groups_terminate(tmp_path):
    def loop(file):
        file["layers/conv1/again"] = file["layers"]

    (tmp_path / "w.h5").write_bytes(weights(loop))
    with pytest.raises(InputError, match="no layer with weights"):
        read_hdf5(tmp_path / "w.h5")


class Evil:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_npz_file_with_pickles_or_zip_bombs(refused, tmp_path):
    np.savez(tmp_path / "a.npz", w=np.array([Evil(tmp_path / "mark")], object))
    refused(read_npz, tmp_path / "a.npz")
    np.savez_compressed(tmp_path / "b.npz", w=np.zeros(64 << 20, np.uint8))
    assert "unpacks to" in refused(read_npz, tmp_path / "b.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 58,)})
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as made:
        made.writestr("w.npy", header.getvalue())
    refused(read_npz, tmp_path / "c.npz")


@pytest.mark.parametrize(
    "content",
    [
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        *(
            len(header).to_bytes(8, "little") + header
            for header in (
                b'{"w": {"dtype": "F32", "shape": [1152921504606846976], "data_offsets": [0, 4]}}',
                b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 1e99]}}',
                b'{"w": {"dtype": "object", "shape": [2], "data_offsets": [0, 16]}}',
                b'{"w": null}',
            )
        ),
    ],
)
def test_safetensors_with_an_invalid_header(refused, tmp_path, content):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(read_safetensors, tmp_path / "w.safetensors")
