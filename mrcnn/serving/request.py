"""The body of a request to a served model, taken apart: `{"inputs": [image, …], "params": {…}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits

FORM = '{"inputs": [image, ...], "params": {...}}'
_LONGEST_VALUE = 20  # characters of a value that a message repeats

Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number from 0 to 1, which neither text nor true stands for."""


class Fields(BaseModel):
    """Fields of a request, whose descriptions say what is expected of each."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Body(Fields):
    inputs: list[Any] = Field(min_length=1)
    params: dict[str, Any] | None = None


F = TypeVar("F", bound=Fields)


def validate(fields: type[F], given: Mapping[str, Any], what: str) -> F:
    """Checks all fields of a request, or of its parameters.

    Args:
        what: one of them is called.

    Raises:
        InputError: names the first that is unknown or wrong, and what was expected.
    """
    given = {name: _plain(value) for name, value in given.items()}
    try:
        return fields.model_validate(given)
    except ValidationError as error:
        name = _first_at_fault(error)
        if name not in fields.model_fields:
            expected = ", ".join(fields.model_fields)
            raise InputError(f"{name[:80]}: no such {what}; expected {expected}") from None
        raise InputError(f"{name}{_shown(given.get(name))}: expected {fields.model_fields[name].description}") from None


def _first_at_fault(error: ValidationError) -> str:
    """The name of a field that there is not, or else of the first that is wrong."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    found.sort(key=lambda each: each["type"] != "extra_forbidden")
    return str(found[0]["loc"][0])


def _plain(value: Any) -> Any:
    """Python's own numbers and lists in place of NumPy's."""
    if isinstance(value, list | tuple):
        return [each.tolist() if hasattr(each, "tolist") else each for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _shown(value: Any) -> str:
    """A short number or word as a message repeats it; a list may be too deep to be written, a whole number too long."""
    if isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**_LONGEST_VALUE):
        return f"={value}" if len(str(value)) <= _LONGEST_VALUE else ""
    return ""


def parse_request(body: bytes, limits: Limits) -> tuple[list[Any], dict[str, Any]]:
    """The images as they were sent, and the parameters.

    Raises:
        InputError: not that form, no image, or more than may be sent at once.
    """
    if not body.strip():
        raise InputError(f"empty body; expected {FORM}")
    try:
        request = json.loads(body, parse_constant=_refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"body is not JSON{where}; expected {FORM}") from error
    if not isinstance(request, dict):
        raise InputError(f"body is a JSON {type(request).__name__}; expected {FORM}")
    try:
        body_fields = _Body.model_validate(request)
    except ValidationError as error:
        name = _first_at_fault(error)
        if name == "params":
            raise InputError(f"params: expected an object, as in {FORM}") from None
        told = "missing, empty or no list" if name == "inputs" else "no such field"
        raise InputError(f"{name[:80]}: {told}; expected {FORM}") from None
    images = body_fields.inputs
    if len(images) > limits.images:
        raise InputError(f"inputs: {len(images)} images; expected at most {limits.images}")
    return images, body_fields.params or {}


def _refuse(word: str) -> NoReturn:
    raise InputError(f"body holds {word}, which is no JSON; expected finite numbers")
