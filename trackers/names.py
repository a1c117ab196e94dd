"""The one rule by which a name becomes a metric or parameter name that MLflow accepts."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 250
"""Characters of a name that MLflow stores (mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH)."""


def tracked_name(name: str) -> str:
    """`name` as MLflow accepts it.

    Letters and digits of any alphabet, `_`, `-`, `.`, space and `/` stay. Every other character becomes `_` (also the
    colon, which MLflow refuses on Windows), and so does an empty, `.` or `..` part between slashes, because file stores
    read a name as a path. What is longer than `LONGEST` is cut. So `dice/nódulo (iso)` becomes `dice/nódulo _iso_`.
    """
    kept = re.sub(r"[^\w\-./ ]", "_", unicodedata.normalize("NFC", name))[:LONGEST]
    return "/".join("_" * max(1, len(part)) if part.strip(".") == "" else part for part in kept.split("/"))


class Names:
    """`tracked_name` for one run, where two names never fall into one: the second becomes `<name>_2`, and so on."""

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
