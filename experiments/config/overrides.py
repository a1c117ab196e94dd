"""Parse option values as YAML, and merge dotted keys into nested sections."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import TypeAdapter, ValidationError

from mrcnn.errors import InputError
from mrcnn.safe_yaml import read_yaml


def full_key(key: str, known: Iterable[str]) -> str:
    """Return the dotted key in `known` that equals `key`, or the only one that ends in `.key`.

    Raises:
        InputError: no key or several keys match.
    """
    known = list(known)
    if key in known:
        return key
    matches = [name for name in known if name.endswith(f".{key}")]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"--{key}: could mean {' or '.join(matches)}; expected the dotted name")
    leaves = {name.rpartition(".")[2]: name for name in known}
    close = difflib.get_close_matches(key, [*known, *leaves], n=1)
    hint = f"did you mean {leaves.get(close[0], close[0])}?" if close else "`mrcnn train --help all` lists them"
    raise InputError(f"--{key}: no such option; {hint}")


def parse_value(key: str, text: str) -> Any:
    """Parse `text` as YAML: 3, 0.5, true, null, [0.9, 0.1, 0] or a word.

    Raises:
        InputError: `text` is not YAML.
    """
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"--{key} {text}: expected a YAML value such as 3, null or [1, 2]") from error


def parse_option(key: str, text: str, annotation: Any) -> Any:
    """Parse `text` as the value of an option of type `annotation`.

    A list has brackets, parentheses or neither: `[a, b]`, `("a", "b")` and `a, b` are equal. In a list of words, `yes`,
    `3` and `null` are words too. A text option is not parsed; all other options are YAML.

    Raises:
        InputError: `text` is not YAML.
    """
    if not takes_list(annotation):
        # YAML would read some paths as numbers or dates.
        is_text = str in (annotation, *get_args(annotation))
        return text if is_text and text != "null" else parse_value(key, text)
    if text.strip() == "null":
        return None
    forms = []
    listed = _with_brackets(text)
    for form, words in ((text, False), (listed, False), (listed, True)):
        try:
            forms.append(read_yaml(form, strings_only=words))
            TypeAdapter(annotation).validate_python(forms[-1])
        except (yaml.YAMLError, ValidationError):
            continue
        return forms[-1]
    # No form is valid; the validation of the whole configuration reports the expected type.
    return forms[0] if forms else parse_value(key, text)


def parse_words(key: str, text: str) -> list[str]:
    """Parse a list of words in any of the forms of `parse_option`.

    Raises:
        InputError: `text` is not a list of words.
    """
    try:
        return TypeAdapter(list[str]).validate_python(read_yaml(_with_brackets(text), strings_only=True))
    except (yaml.YAMLError, ValidationError) as error:
        raise InputError(f"--{key} {text}: expected words with commas, such as a,b or [a, b]") from error


def _with_brackets(text: str) -> str:
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return text if text.startswith("[") else f"[{text}]"


def takes_list(annotation: Any) -> bool:
    """Return True for a tuple type and for a union with a tuple type."""
    if get_origin(annotation) is tuple:
        return True
    inner = get_args(annotation)
    return any(takes_list(each) for each in (inner[:1] if get_origin(annotation) is Annotated else inner))


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Nest dotted keys: `{"a.b": 1}` becomes `{"a": {"b": 1}}`."""
    tree: dict[str, Any] = {}
    for key, value in dotted.items():
        *sections, leaf = key.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[leaf] = value
    return tree


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested sections: `{"a": {"b": 1}}` becomes `{"a.b": 1}`. It drops empty sections."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `above` over `below`, section by section; a list replaces the whole list."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result
