"""Convert names and values to those that MLflow accepts."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Mapping

from trackers.runs.serialization import json_text

LONGEST = 250
"""Characters of a name that MLflow stores (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH)."""


def tracked_name(name: str) -> str:
    """Convert `name` to a name that MLflow accepts.

    Letters and digits of any alphabet, `_`, `-`, `.`, space and `/` remain. Other characters become `_` (also the
    colon, which MLflow refuses on Windows), and so do empty parts, `.` and `..` between slashes, because file stores
    read a name as a path. The result is cut to `LONGEST`. `dice/nódulo (iso)` becomes `dice/nódulo _iso_`.
    """
    kept = re.sub(r"[^\w\-./ ]", "_", unicodedata.normalize("NFC", name))[:LONGEST]
    return "/".join("_" * max(1, len(part)) if part.strip(".") == "" else part for part in kept.split("/"))


class Names:
    """Apply `tracked_name` in one run without collisions: the second of two equal names becomes `<name>_2`."""

    def __init__(self) -> None:
        self._tracked: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._tracked:
            taken = set(self._tracked.values())
            tracked = candidate = tracked_name(name)
            number = 2
            while candidate in taken:
                ending = f"_{number}"
                candidate = tracked[: LONGEST - len(ending)] + ending
                number += 1
            self._tracked[name] = candidate
        return self._tracked[name]


MAX_VALUE_LENGTH = 6000
"""Characters of a value that MLflow keeps (mlflow.utils.validation.MAX_PARAM_VAL_LENGTH)."""
RESOLVED = "resolved."
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}

_log = logging.getLogger(__name__)


def param_text(value: object) -> str:
    """Format `value` as YAML on one line: text unchanged, `true`, `null`, `[1, 2]`; cut with an ellipsis."""
    text = value if isinstance(value, str) else json_text(value, indent=None)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 1] + "…"


def new_params(values: Mapping[str, object], present: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of `values` that remain to be logged in a run with the parameters `present`.

    `mlflow run` logs the parameters of -P before our code starts, and MLflow refuses a second value for a name. A name
    with the same value is skipped; for another value, such as a filled-in default, the resolved value is logged as
    `resolved.<name>`. If an earlier part of the same run has logged that too, a warning is logged.
    """
    new: dict[str, str] = {}
    for name, value in values.items():
        text = param_text(value)
        for place in (name, RESOLVED + name):
            if place not in present:
                new[place] = text
                break
            if _same(present[place], text):
                break
        else:
            _log.warning("parameter %s=%s is not recorded: the run already holds %s", name, text, present[name])
    return new


def _same(typed: str, text: str) -> bool:
    """Return whether two texts mean the same value: 1e-3 is 0.001, True is true."""
    if typed == text:
        return True
    try:
        return json.loads(PYTHON_WORDS.get(typed, typed)) == json.loads(text)
    except json.JSONDecodeError:
        return False
