"""Parse and validate the body of a request, `{"inputs": [image, …], "params": {…}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits

FORM = '{"inputs": [image, ...], "params": {...}}'
_LONGEST_VALUE = 20  # maximum length of a value in a message

Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number from 0 to 1; text and booleans are invalid."""


class Fields(BaseModel):
    """Base of request models; the description of a field states the expected value."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Body(Fields):
    inputs: list[Any] = Field(min_length=1)
    params: dict[str, Any] | None = None


F = TypeVar("F", bound=Fields)


def validate(fields: type[F], values: Mapping[str, Any], kind: str) -> F:
    """Validate the fields of a request, or of its parameters; `kind` is the noun for a field in messages.

    Raises:
        InputError: reports the first unknown or invalid field and the expected value.
    """
    values = {name: _to_python(value) for name, value in values.items()}
    try:
        return fields.model_validate(values)
    except ValidationError as error:
        name = _first_invalid_field(error)
        if name not in fields.model_fields:
            expected = ", ".join(fields.model_fields)
            raise InputError(f"{name[:80]}: no such {kind}; expected {expected}") from None
        raise InputError(
            f"{name}{_format_value(values.get(name))}: expected {fields.model_fields[name].description}"
        ) from None


def _first_invalid_field(error: ValidationError) -> str:
    """Return the name of the first unknown field, or else of the first invalid one."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    found.sort(key=lambda each: each["type"] != "extra_forbidden")
    return str(found[0]["loc"][0])


def _to_python(value: Any) -> Any:
    """Convert NumPy numbers and arrays to Python numbers and lists."""
    if isinstance(value, list | tuple):
        return [each.tolist() if hasattr(each, "tolist") else each for each in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _format_value(value: Any) -> str:
    """Format a short number or text for a message; lists may be too deep and integers too long."""
    if isinstance(value, str | float) or (isinstance(value, int) and abs(value) < 10**_LONGEST_VALUE):
        return f"={value}" if len(str(value)) <= _LONGEST_VALUE else ""
    return ""


def parse_request(body: bytes, limits: Limits) -> tuple[list[Any], dict[str, Any]]:
    """Parse the body; return the undecoded images and the parameters.

    Raises:
        InputError: the body has another form, no image, or too many images.
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
        name = _first_invalid_field(error)
        if name == "params":
            raise InputError(f"params: expected an object, as in {FORM}") from None
        reason = "missing, empty or no list" if name == "inputs" else "no such field"
        raise InputError(f"{name[:80]}: {reason}; expected {FORM}") from None
    images = body_fields.inputs
    if len(images) > limits.images:
        raise InputError(f"inputs: {len(images)} images; expected at most {limits.images}")
    return images, body_fields.params or {}


def _refuse(word: str) -> NoReturn:
    raise InputError(f"body holds {word}, which is no JSON; expected finite numbers")
