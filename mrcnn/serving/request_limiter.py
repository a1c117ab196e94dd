"""Limit the size and number of concurrent requests, and report each rejection in one line."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from mrcnn.errors import InputError, counted
from mrcnn.serving.limits import Limits

AT_ONCE = 2
"""Number of requests that are decoded at a time: one decodes an image while the other runs the network."""
LONGEST_REASON = 400
_DRAINED = 4  # × maximum bytes: read and discarded, because many clients read an answer only after sending
_HELD = 8  # × maximum bytes: limit of all bodies in memory
_ARRIVING = 16  # × waiting requests: limit of incomplete bodies; beyond it the oldest one is rejected

_logger = logging.getLogger(__name__)


class Rejection(Exception):
    """Reject a request with an HTTP status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestLimiter:
    """Run `work` (body → JSON as bytes) in a thread for each accepted request; `handle` is the FastAPI endpoint.

    Args:
        work: may raise `InputError` for an invalid request, which is answered with 400 and the reason. Other exceptions
            are logged and answered with 500, without details.
        limits: limits of requests.
        media_types: accepted Content-Types; empty for any.
        threads: number of threads that run `work`.
    """

    def __init__(
        self,
        work: Callable[[bytes], bytes],
        limits: Limits,
        media_types: Sequence[str] = (),
        threads: int = AT_ONCE,
    ) -> None:
        self._work = work
        self._limits = limits
        self._media_types = tuple(media_types)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="answering")
        self._waiting = 0
        self._held = 0
        self._arriving: dict[asyncio.Timeout, None] = {}

    async def handle(self, request: Request) -> Response:
        """Answer a request, or reject it with a reason."""
        try:
            return Response(await self._answer(request), media_type="application/json")
        except Rejection as error:
            return error_response(error.status, str(error))
        except InputError as error:
            return error_response(400, str(error))
        except ClientDisconnect:
            return error_response(400, "the body ended early")
        except Exception:
            _logger.exception("a request could not be answered")
            return error_response(500, "the server could not answer; its log tells why")

    async def _answer(self, request: Request) -> bytes:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self._media_types and media_type not in self._media_types:
            raise InputError(f"Content-Type {media_type or 'missing'}: expected {' or '.join(self._media_types)}")
        self._check_waiting()
        body = bytearray()
        try:
            # Only complete requests count as waiting, so that slow uploads do not block others.
            await self._read(request, body)
            self._check_waiting()
            self._waiting += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._work_in_time, bytes(body), time.monotonic()
                )
            finally:
                self._waiting -= 1
        finally:
            self._held -= len(body)

    def _check_waiting(self) -> None:
        if self._waiting >= self._limits.waiting:
            raise Rejection(
                503, f"busy: {counted(self._waiting, 'request is', 'requests are')} waiting; try again later"
            )

    async def _read(self, request: Request, body: bytearray) -> None:
        """Read the stream into `body`, and count its bytes as held."""
        size = 0
        deadline = asyncio.timeout(self._limits.seconds)
        try:
            async with deadline:
                self._arriving[deadline] = None
                if len(self._arriving) > _ARRIVING * self._limits.waiting:
                    first = next(iter(self._arriving))
                    del self._arriving[first]
                    first.reschedule(asyncio.get_running_loop().time())
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= self._limits.bytes and self._held + len(chunk) <= _HELD * self._limits.bytes:
                        body += chunk
                        self._held += len(chunk)
                    elif size > _DRAINED * self._limits.bytes:
                        break
        except TimeoutError as error:
            if deadline not in self._arriving:
                raise Rejection(503, "busy: too many bodies arrive slowly; try again later") from error
            raise Rejection(408, f"the body did not arrive within {self._limits.seconds} seconds") from error
        finally:
            self._arriving.pop(deadline, None)
        if size > self._limits.bytes:
            raise InputError(f"body is larger than {self._limits.bytes} bytes; expected at most that many")
        if size > len(body):
            raise Rejection(503, "busy: other requests fill the memory; try again later")

    def _work_in_time(self, body: bytes, arrived: float) -> bytes:
        if time.monotonic() - arrived > self._limits.seconds:
            raise Rejection(503, f"busy: waited {self._limits.seconds} seconds; try again later")
        return self._work(body)


def error_response(status: int, reason: str) -> Response:
    """Build the response of an error: the reason on one line, in the format of MLflow errors."""
    code = {400: "INVALID_PARAMETER_VALUE", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}
    line = "".join(letter if letter.isprintable() else " " for letter in reason)[:LONGEST_REASON]
    content = json.dumps({"error_code": code.get(status, "BAD_REQUEST"), "message": line})
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Response(content, status, headers, "application/json")
