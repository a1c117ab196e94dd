"""Read untrusted YAML as plain data, without execution and with limits on its expanded size."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml
from yaml.constructor import ConstructorError
from yaml.scanner import ScannerError

MAX_CHARACTERS = 1 << 18
MAX_VALUES = 20_000
"""Largest number of values, with aliases expanded."""
_MAX_DEPTH = 50


def read_yaml(text: str, *, strings_only: bool = False) -> Any:
    """Parse YAML text to YAML's own types.

    Aliases share values, so a dozen nested aliases ("billion laughs") need no memory before they are traversed; merges
    (`<<`) need it at once. Both are counted.

    Args:
        text: the document.
        strings_only: parse every scalar as a string, also `yes`, `3` and `null`.

    Raises:
        yaml.YAMLError: the text is not YAML, names Python objects, is too long, or too large with expanded aliases.
    """
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"{len(text):,} characters; expected at most {MAX_CHARACTERS:,}")
    try:
        loader = (_StringLoader if strings_only else _Loader)(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    # Invalid dates and numbers.
    except (ValueError, OverflowError, AttributeError, LookupError, TypeError) as error:
        raise yaml.YAMLError(f"a value that cannot be: {error}") from error
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        count += 1
        if count + len(waiting) > MAX_VALUES:
            raise yaml.YAMLError(f"more than {MAX_VALUES:,} values, aliases written out")
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | set | tuple):
            waiting += each
    return value


class _Loader(yaml.SafeLoader):
    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:
        # PyYAML scans all open brackets at each token, so many of them would take minutes.
        super().fetch_flow_collection_start(TokenClass)
        if self.flow_level > _MAX_DEPTH:
            raise ScannerError(None, None, "brackets nested too deep", self.get_mark())

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_VALUES:
            raise ConstructorError(None, None, "too many merged keys", node.start_mark)


class _StringLoader(_Loader):
    yaml_implicit_resolvers: ClassVar[dict] = {}
