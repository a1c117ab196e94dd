"""Install request limits in MLflow's scoring server, which loads a model and then creates its endpoints.

That server reads bodies of any size, queues any number of requests, and answers errors with the traceback and the whole
request. It has no hook for another endpoint, so the limiter replaces the decorator that converts its exceptions to
responses. MLflow is not imported: the limits are installed only in a process that runs the server.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from threading import Semaphore
from typing import Any

from mrcnn.serving.batching import PixelBudget
from mrcnn.serving.inputs import DecodedImage, parse_images
from mrcnn.serving.limits import limits_from_environment
from mrcnn.serving.request import parse_request

SERVER = "mlflow.pyfunc.scoring_server"
DECORATOR = "_async_catch_mlflow_exception"

packaging: ContextVar[bool] = ContextVar("packaging", default=False)
"""Whether MLflow stores a package: it loads the model twice for the input example, and only warns about failures. The
model does nothing then, since `trackers.packaging.packaged` tests the stored package afterwards."""

Answers = Callable[[list[DecodedImage], dict[str, Any]], list[dict[str, Any]]]


def install_limits(answers: Answers, batch_size: int = 1) -> bool:
    """Let the scoring server that loads this model answer with `answers`, within the limits of the environment.

    Args:
        answers: decoded images and parameters → a response for each image.
        batch_size: number of concurrent calls of `answers` that share a computation.

    Returns:
        Whether this process runs such a server.

    Raises:
        InputError: an environment variable of a limit is invalid.
    """
    if f"{SERVER}.app" not in sys.modules:
        return False
    if not hasattr(sys.modules[SERVER], DECORATOR):
        logging.getLogger(__name__).warning("this MLflow's server is unknown: requests are not limited")
        return False
    from mrcnn.serving.request_limiter import AT_ONCE, RequestLimiter

    limits = limits_from_environment()
    decoding, memory = Semaphore(AT_ONCE), PixelBudget(limits.pixels)

    def work(body: bytes) -> bytes:
        with ExitStack() as held:
            with decoding:
                inputs, params = parse_request(body, limits)
                images = parse_images(inputs, limits.pixels)
                held.enter_context(memory.hold(sum(image.pixels.size for image in images)))
            predictions = answers(images, params)
        return json.dumps({"predictions": predictions}, allow_nan=False).encode()

    # One batch is computed while the next one gathers. Further requests wait before this point, where `limits.seconds`
    # bounds their wait.
    limiter = RequestLimiter(work, limits, ["application/json"], threads=max(AT_ONCE, 2 * batch_size))
    setattr(sys.modules[SERVER], DECORATOR, lambda endpoint: limiter.handle)
    return True


stand_guard = install_limits  # models packaged with medmrcnn 0.1 import this name
