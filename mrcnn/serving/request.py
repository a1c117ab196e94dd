"""The body of a request to a served model, taken apart: `{"inputs": [image, …], "params": {…}}`."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits

FORM = '{"inputs": [image, ...], "params": {...}}'


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
    if unknown := sorted(request.keys() - {"inputs", "params"}):
        raise InputError(f"{unknown[0]}: no such field; expected {FORM}")
    images, params = request.get("inputs"), request.get("params")
    if not isinstance(images, list) or not images:
        raise InputError(f"inputs: missing, empty or no list; expected {FORM}")
    if len(images) > limits.images:
        raise InputError(f"inputs: {len(images)} images; expected at most {limits.images}")
    if params is not None and not isinstance(params, dict):
        raise InputError(f"params: expected an object, as in {FORM}")
    return images, params or {}


def _refuse(word: str) -> NoReturn:
    raise InputError(f"body holds {word}, which is no JSON; expected finite numbers")
