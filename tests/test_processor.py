"""Test the parsing of `/proc/cpuinfo` and the selection of bfloat16 by device."""

import sys
from types import SimpleNamespace

import keras
import pytest

from mrcnn import backend
from mrcnn.processor import cpu_info, read_cpuinfo

CPUINFO = """processor\t: 0
model name\t: Some Processor @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 sse

processor\t: 1
model name\t: Another
flags\t\t: amx_bf16
"""


def test_first_processor_is_read():
    assert read_cpuinfo(CPUINFO) == ("Some Processor @ 2 GHz", {"fpu", "avx2", "avx512f", "avx512_bf16", "sse"})


def test_machine_without_cpuinfo(monkeypatch):
    assert read_cpuinfo("") == ("", set())
    monkeypatch.setattr("pathlib.Path.exists", lambda path: False)
    name, flags = cpu_info()
    assert name and not flags


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, False), ({"avx2", "avx512f"}, False), ({"avx512f", "avx512_bf16"}, True), ({"amx_bf16"}, True)],
)
def test_bfloat16_by_processor_flags_under_tensorflow(monkeypatch, flags, expected):
    monkeypatch.setattr(backend, "cpu_info", lambda: ("", frozenset(flags)))
    asked = backend.computes_in_bfloat16.__wrapped__
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    tensorflow = SimpleNamespace(config=SimpleNamespace(list_physical_devices=lambda kind: []))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    assert asked() is expected
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.ops, "zeros", lambda shape: SimpleNamespace(device=SimpleNamespace(platform="cpu")))
    assert asked() is False


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((12, 0), True), (None, False), ("gfx90a", False)]
)
def test_bfloat16_by_compute_capability(monkeypatch, capability, expected):
    asked = backend.computes_in_bfloat16.__wrapped__
    text = capability if isinstance(capability, str) else ".".join(map(str, capability or ()))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    device = SimpleNamespace(compute_capability=text)
    monkeypatch.setattr(keras.ops, "zeros", lambda shape: SimpleNamespace(device=device))
    assert asked() is expected
    if isinstance(capability, str):
        return
    details = {} if capability is None else {"compute_capability": capability}
    config = SimpleNamespace(
        list_physical_devices=lambda kind: ["GPU:0"],
        experimental=SimpleNamespace(get_device_details=lambda device: details),
    )
    monkeypatch.setattr(keras.backend, "backend", lambda: "tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert asked() is expected
