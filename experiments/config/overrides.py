"""Settings from the command line: `--train.epochs 3`, or `--epochs 3` where only one option ends in that."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` pairs as a dict of texts; this is how `mlflow run -P key=value` hands them on.

    A list that the shell has split into words, since it was not quoted, is one value: `[a, b]`.

    Raises:
        InputError: a word that is no option, an option without a value, or one given twice.
    """
    values: dict[str, str] = {}
    words = deque(arguments)
    while words:
        word = words.popleft()
        if not word.startswith("--") or len(word) == 2:
            raise InputError(f"{word!r}: expected an option such as --epochs 3; a list is one value, as in '[a, b]'")
        key, equals, value = word[2:].partition("=")
        if not equals:
            value = words.popleft() if words else None
        if value is None:
            raise InputError(f"--{key}: expected a value after it")
        if value.startswith("[") and "]" not in value:
            value = " ".join([value, *_rest_of_list(words)])
        if key in values:
            raise InputError(f"--{key}: expected once, given as {values[key]!r} and {value!r}")
        values[key] = value
    return values


def _rest_of_list(words: deque[str]) -> list[str]:
    """Takes the words up to the closing bracket; none where an option or the end comes first."""
    for position, word in enumerate(words):
        if word.startswith("--"):
            break
        if word.endswith("]"):
            return [words.popleft() for _ in range(position + 1)]
    return []


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


def parse_option(key: str, text: str, annotation: Any) -> Any:
    """`text` as the value of an option of type `annotation`: text as it is, a list in any form, else YAML.

    Lists are YAML lists, or the same in parentheses or without: `[a, b]`, `("a", "b")` and `a, b` are alike. In a list
    of words `yes`, `3` and `null` are words too.

    Raises:
        InputError: it is not YAML.
    """
    if not takes_list(annotation):
        # A path may look like a number or a date to YAML.
        is_text = str in (annotation, *get_args(annotation))
        return text if is_text and text != "null" else parse_value(key, text)
    if text.strip() == "null":
        return None
    forms = []
    listed = _with_brackets(text)
    for form, words in ((text, False), (listed, False), (listed, True)):
        try:
            forms.append(read_yaml(form, words=words))
            TypeAdapter(annotation).validate_python(forms[-1])
        except (yaml.YAMLError, ValidationError):
            continue
        return forms[-1]
    # None fits: the check of all options says what was expected.
    return forms[0] if forms else parse_value(key, text)


def parse_words(key: str, text: str) -> list[str]:
    """The words of a list in any of the forms of `parse_option`.

    Raises:
        InputError: it is no list of words.
    """
    try:
        return TypeAdapter(list[str]).validate_python(read_yaml(_with_brackets(text), words=True))
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"--{key} {text}: expected words with commas, such as a,b or [a, b]") from error


def _with_brackets(text: str) -> str:
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text if text.startswith("[") else f"[{text}]"


def takes_list(annotation: Any) -> bool:
    """Whether a type is a tuple, or one of several types of which one is."""
    if get_origin(annotation) is tuple:
        return True
    inner = get_args(annotation)
    return any(takes_list(each) for each in (inner[:1] if get_origin(annotation) is Annotated else inner))


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
