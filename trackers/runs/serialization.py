"""Convert values of NumPy and others for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np


def to_jsonable(value: object) -> object:
    """Convert arrays to lists, numbers that are not finite to None, and paths to text, in nested dicts and lists."""
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
    """Format `value` as standard JSON. Raises TypeError for other types."""
    return json.dumps(to_jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)
