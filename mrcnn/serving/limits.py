"""Limits of a server, and the environment variables that set them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

from mrcnn.errors import InputError

PREFIX = "MRCNN_SERVE_"


@dataclass(frozen=True)
class Limits:
    """Store the limits; `MRCNN_SERVE_<NAME>`, such as `MRCNN_SERVE_IMAGES=4`, overrides a default.

    Attributes:
        megabytes: maximum size of a request body, in units of 2²⁰ bytes.
        megapixels: maximum rows × columns of an image, in units of 2²⁰ pixels.
        images: maximum number of images per request.
        waiting: maximum number of received, unanswered requests, including those in computation; more are rejected.
        seconds: maximum time for a request body to arrive, and for the request to wait afterwards.
    """

    megabytes: int = 32
    megapixels: int = 16
    images: int = 16
    waiting: int = 32
    seconds: int = 30

    @property
    def bytes(self) -> int:
        """Maximum size of a request body in bytes."""
        return self.megabytes << 20

    @property
    def pixels(self) -> int:
        """Maximum number of pixels of an image."""
        return self.megapixels << 20


def limits_from_environment(environment: Mapping[str, str] = os.environ) -> Limits:
    """Read the limits from environment variables.

    Raises:
        InputError: a value is not a positive integer.
    """
    values = {}
    for field in fields(Limits):
        name = PREFIX + field.name.upper()
        text = environment.get(name)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise InputError(f"{name}={text}: expected a whole number from 1")
        values[field.name] = int(text)
    return Limits(**values)
