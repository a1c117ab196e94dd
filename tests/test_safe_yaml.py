"""Test that malicious YAML is rejected."""

import time
import tracemalloc

import pytest
import yaml

from mrcnn.safe_yaml import read_yaml

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 30)
)
MERGES = "a0: &a0 {k0: 1, k1: 2}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch mark']",
        "!!python/object/new:os.system ['touch mark']",
        "!!python/name:os.system",
        "!!python/module:os",
        "task: !!python/tuple [1]",
        LAUGHS,
        "&a [*a]",
        "&a {b: *a}",
        "[" * 200_000,
        "x: " + "1" * 10_000,
        "2020-13-45",
        "? [a]\n: b",
        "? " * 3000,
        "- " * 3000,
        "{" * 3000,
        "? {a: b}\n: c",
        "x: " + "y" * (2 << 20),
        "{a: b",
        "\x00",
        "=",
    ],
    ids=range(20),
)
def test_malicious_text_is_rejected_at_once(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20 and time.process_time() - began < 30
    assert list(tmp_path.iterdir()) == []


def test_ordinary_text_is_read():
    assert read_yaml("a: &a {b: 1}\nc: {<<: *a, d: [1, 2.5, null, true]}\ne: *a\n") == {
        "a": {"b": 1}, "c": {"b": 1, "d": [1, 2.5, None, True]}, "e": {"b": 1},
    }  # fmt: skip
    assert read_yaml("") is None


def test_nested_merges_are_rejected_or_stay_small():
    """PyYAML expands every merge before 6.0.4 and drops repeated keys since then."""
    try:
        value = read_yaml(MERGES)
    except yaml.YAMLError:
        return
    assert all(set(each) == {"k0", "k1"} for each in value.values())
