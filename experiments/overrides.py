"""Settings from the command line: `--train.epochs 3`, or `--epochs 3` where only one option ends in that."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` pairs as a dict of texts; this is how `mlflow run -P key=value` hands them on.

    Raises:
        InputError: a word that is no option, an option without a value, or one given twice.
    """
    values: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        if not word.startswith("--") or len(word) == 2:
            raise InputError(f"{word!r}: expected an option such as --epochs 3")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = next(words, None)
        if value is None:
            raise InputError(f"--{key}: expected a value after it")
        if key in values:
            raise InputError(f"--{key}: expected once, given as {values[key]!r} and {value!r}")
        values[key] = value
    return values


def full_key(key: str, known: Iterable[str]) -> str:
    """The dotted key among `known` that `key` means: itself, or the only one that ends in `.key`.

    Raises:
        InputError: none or several fit.
    """
    known = list(known)
    if key in known:
        return key
    fitting = [name for name in known if name.endswith(f".{key}")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InputError(f"--{key}: could mean {' or '.join(fitting)}; expected the dotted name")
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, [*known, *leaves], n=1)
    hint = f"did you mean {leaves.get(close[0], close[0])}?" if close else "`mrcnn train --help` lists them"
    raise InputError(f"--{key}: no such option; {hint}")


def parse_value(key: str, text: str) -> Any:
    """`text` read as YAML: 3, 0.5, true, null, [0.9, 0.1, 0] or a word.

    Raises:
        InputError: it is not YAML.
    """
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--{key} {text}: expected a YAML value such as 3, null or [1, 2]") from error


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        *sections, leaf = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; an empty section vanishes, a list is a value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above` in their places, section by section; a list is replaced whole."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
