"""The gate in MLflow's scoring server, which loads a model and then makes its endpoints.

By itself that server reads bodies of any size, queues any number of requests, and answers errors with the traceback
and with the whole of what was sent. It has no place for another endpoint, so the gate takes that of the decorator which
turns its errors into answers. Nothing of MLflow is imported: what is not running is left alone.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.limits import limits_from_environment
from mrcnn.serving.request import parse_request

SERVER = "mlflow.pyfunc.scoring_server"
DECORATOR = "_async_catch_mlflow_exception"

Answers = Callable[[list[DecodedImage], dict[str, Any]], list[dict[str, Any]]]


def install_limits(answers: Answers) -> bool:
    """Has the server that is loading this model answer with `answers` behind the gate; returns whether there is one.

    Args:
        answers: (images, parameters) → an answer for each image.

    Raises:
        InputError: a limit of the environment is no number.
    """
    if f"{SERVER}.app" not in sys.modules:
        return False
    if not hasattr(sys.modules[SERVER], DECORATOR):
        logging.getLogger(__name__).warning("this MLflow's server is unknown: requests are not limited")
        return False
    from mrcnn.serving.request_limiter import RequestLimiter

    limits = limits_from_environment()

    def work(body: bytes) -> bytes:
        inputs, params = parse_request(body, limits)
        predictions = answers(parse_images(inputs, limits.pixels), params)
        return json.dumps({"predictions": predictions}, allow_nan=False).encode()

    gate = RequestLimiter(work, limits, ["application/json"])
    setattr(sys.modules[SERVER], DECORATOR, lambda endpoint: gate.handle)
    return True


stand_guard = install_limits  # the name that models packaged with medmrcnn 0.1 import
