"""Values of NumPy and others as the plain ones that JSON can hold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np


def to_jsonable(value: object) -> object:
    """`value` of dicts, lists, strings, numbers; arrays become lists, numbers that are not finite None, paths text."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [to_jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    return value


def json_text(value: object, *, indent: int | None = 2) -> str:
    """`value` as JSON that any reader accepts. Raises TypeError for what is not data."""
    return json.dumps(to_jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)
