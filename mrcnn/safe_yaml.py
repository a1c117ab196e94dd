"""YAML of strangers as plain data: nothing is executed, and a few lines do not become millions."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml

LONGEST = 1 << 18
"""Characters."""
MOST = 20_000
"""Values, counted as often as aliases name them."""
_DEEPEST = 50


def read_yaml(text: str, *, strings_only: bool = False) -> Any:
    """What YAML text says, of YAML's own types alone.

    Aliases share what they name, so a nested dozen of them ("billion laughs") takes no memory until somebody walks
    through all of it; merges (`<<`) take it at once. Both are counted.

    Args:
        strings_only: whether `yes`, `3` and `null` are text, as anything else that stands alone.

    Raises:
        yaml.YAMLError: it is no YAML, names objects of Python, is too long, or too large with its aliases written out.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text):,} characters; expected at most {LONGEST:,}")
    try:
        loader = (_WordLoader if strings_only else _Loader)(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    # Dates and numbers that there are not, and lists within lists within lists.
    except (ValueError, OverflowError, AttributeError, LookupError, TypeError) as error:
        raise yaml.YAMLError(f"a value that cannot be: {error}") from error
    except RecursionError as error:
        raise yaml.YAMLError("nested too deep") from error
    waiting, count = [value], 0
    while waiting:
        each = waiting.pop()
        count += 1
        if count + len(waiting) > MOST:
            raise yaml.YAMLError(f"more than {MOST:,} values, aliases written out")
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | set | tuple):
            waiting += each
    return value


class _Loader(yaml.SafeLoader):
    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        # At each token PyYAML looks at all open brackets, so many of them would take minutes.
        super().fetch_flow_collection_start(kind)
        if self.flow_level > _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, "brackets nested too deep", self.get_mark())

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys", node.start_mark)


class _WordLoader(_Loader):
    yaml_implicit_resolvers: ClassVar[dict] = {}
