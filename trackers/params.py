"""Parameters of a run, which MLflow lets nobody write twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from trackers.plain import json_text

LONGEST = 6000
"""Characters of a value that MLflow keeps (mlflow.utils.validation.MAX_PARAM_VAL_LENGTH)."""
RESOLVED = "resolved."
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}

_log = logging.getLogger(__name__)


def param_text(value: object) -> str:
    """`value` as YAML would write it on one line: text as it is, `true`, `null`, `[1, 2]`; cut with an ellipsis."""
    text = value if isinstance(value, str) else json_text(value, indent=None)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def new_params(values: Mapping[str, object], present: Mapping[str, str]) -> dict[str, str]:
    """What is left to log of `values` in a run that already holds `present`.

    `mlflow run` logs what was typed after -P before our code starts, and a second value for a name is refused. A name
    that stands there with the same value is left alone; with another value (a default that was filled in, a word for a
    path) the resolved one goes to `resolved.<name>`. Where that is taken too, by an earlier part of the same run, the
    run keeps the first and a warning is logged.
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
    """Whether two texts say the same value: 1e-3 is 0.001, True is true."""
    if typed == text:
        return True
    try:
        return json.loads(PYTHON_WORDS.get(typed, typed)) == json.loads(text)
    except json.JSONDecodeError:
        return False
