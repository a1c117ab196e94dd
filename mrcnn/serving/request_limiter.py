"""Who comes in: requests of a bounded size and number, one computed after the other, every refusal in one line."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits

AT_ONCE = 2
"""Threads: while one's network computes, another image is unpacked."""
LONGEST_REASON = 400
_DRAINED = 4  # times the most bytes: so much is read and dropped, as many clients hear an answer only after sending
_HELD = 8  # times the most bytes: all bodies together
_ARRIVING = 16  # times the requests that may wait: bodies on their way; beyond it the one that began first is cut off

_logger = logging.getLogger(__name__)


class Refusal(Exception):
    """An answer other than what was asked for: HTTP status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestLimiter:
    """Lets requests in to `work` (body → JSON as bytes), which runs in a thread; FastAPI's endpoint is `handle`.

    Args:
        work: raises `InputError` for a request that is at fault, which is answered with 400 and the reason. Whatever
            else it raises is logged here and answered with 500, without a word of it.
        media_types: that a request's Content-Type may have; any where it is empty.
    """

    def __init__(self, work: Callable[[bytes], bytes], limits: Limits, media_types: Sequence[str] = ()) -> None:
        self._work = work
        self._limits = limits
        self._media_types = tuple(media_types)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="answering")
        self._inside = 0
        self._held = 0
        self._arriving: dict[asyncio.Timeout, None] = {}

    async def handle(self, request: Request) -> Response:
        """The answer to a request, or the reason that there is none."""
        try:
            return Response(await self._answer(request), media_type="application/json")
        except Refusal as error:
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
        self._check_place()
        body = bytearray()
        try:
            # A request takes a place once it has arrived, so that those that come slowly keep nobody from theirs.
            await self._read(request, body)
            self._check_place()
            self._inside += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._in_time, bytes(body), time.monotonic()
                )
            finally:
                self._inside -= 1
        finally:
            self._held -= len(body)

    def _check_place(self) -> None:
        if self._inside >= self._limits.waiting:
            raise Refusal(503, f"busy: {self._inside} requests are waiting; try again later")

    async def _read(self, request: Request, body: bytearray) -> None:
        """Fills `body`, counting it as held."""
        size = 0
        try:
            async with asyncio.timeout(self._limits.seconds) as deadline:
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
                raise Refusal(503, "busy: too many bodies arrive slowly; try again later") from error
            raise Refusal(408, f"the body did not arrive within {self._limits.seconds} seconds") from error
        finally:
            self._arriving.pop(deadline, None)
        if size > self._limits.bytes:
            raise InputError(f"body is larger than {self._limits.bytes} bytes; expected at most that many")
        if size > len(body):
            raise Refusal(503, "busy: other requests fill the memory; try again later")

    def _in_time(self, body: bytes, arrived: float) -> bytes:
        if time.monotonic() - arrived > self._limits.seconds:
            raise Refusal(503, f"busy: waited {self._limits.seconds} seconds; try again later")
        return self._work(body)


def error_response(status: int, reason: str) -> Response:
    """The reason on one line, in the form of MLflow's errors."""
    code = {400: "INVALID_PARAMETER_VALUE", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE"}
    line = "".join(letter if letter.isprintable() else " " for letter in reason)[:LONGEST_REASON]
    content = json.dumps({"error_code": code.get(status, "BAD_REQUEST"), "message": line})
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Response(content, status, headers, "application/json")
