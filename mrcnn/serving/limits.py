"""How much a server takes on, each with the variable of the environment that changes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from mrcnn.errors import InputError

PREFIX = "MRCNN_SERVE_"


@dataclass(frozen=True)
class Limits:
    """`MRCNN_SERVE_` and a name in capitals, as `MRCNN_SERVE_IMAGES=4`, sets another value.

    Attributes:
        megabytes: 2²⁰ bytes of a request's body.
        megapixels: 2²⁰ pixels, rows times columns, of an image.
        images: of a request.
        waiting: requests that have arrived and are not answered yet, the one that is computed included; others are
            sent away.
        seconds: that a request's body may take to arrive, and that it may then wait for its turn.
    """

    megabytes: int = 32
    megapixels: int = 16
    images: int = 16
    waiting: int = 32
    seconds: int = 30

    @property
    def bytes(self) -> int:
        """Of a request's body."""
        return self.megabytes << 20

    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.megapixels << 20


def limits_from_environment(environment: Mapping[str, str] = os.environ) -> Limits:
    """The limits that the environment sets.

    Raises:
        InputError: one of them is no whole number from 1.
    """
    given = {}
    for field in fields(Limits):
        name = PREFIX + field.name.upper()
        text = environment.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise InputError(f"{name}={text}: expected a whole number from 1")
        given[field.name] = int(text)
    return Limits(**given)
