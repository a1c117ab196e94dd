"""The gate with requests made by hand: who waits, who is sent away, what is told."""

import asyncio
import json
import sys
import threading
from types import ModuleType

import pytest

from mrcnn.errors import InputError
from mrcnn.serving.limits import Limits, limits_from_environment
from mrcnn.serving.request_limiter import RequestLimiter
from mrcnn.serving.scoring_server import DECORATOR, SERVER, install_limits


class Sent:
    """A request as the gate sees it: chunks, each after a pause; the body ends when all parties of `barrier` wait."""

    def __init__(self, *chunks, pause=0.0, barrier=None, **headers):
        self.headers, self._chunks, self._pause, self._barrier = headers, chunks, pause, barrier

    async def stream(self):
        for chunk in self._chunks:
            await asyncio.sleep(self._pause)
            yield chunk
        if self._barrier:
            await self._barrier.wait()


def answers(gate, *requests):
    """(status, message or answer) of each, all sent at once."""

    async def ask():
        return await asyncio.gather(*(gate.handle(request) for request in requests))

    found = []
    for response in asyncio.run(ask()):
        content = json.loads(response.body)
        found.append((response.status_code, content["message"] if response.status_code != 200 else content))
    return found


def echo(body):
    return json.dumps(body.decode()).encode()


def test_chunks_are_one_body():
    assert answers(RequestLimiter(echo, Limits()), Sent(b"ab", b"", b"c")) == [(200, "abc")]


def test_a_body_that_does_not_arrive():
    assert answers(RequestLimiter(echo, Limits(seconds=1)), Sent(b"a", b"b", pause=0.7)) == [
        (408, "the body did not arrive within 1 seconds")
    ]


def test_a_body_beyond_the_limit_is_dropped_while_it_comes():
    gate = RequestLimiter(echo, Limits(megabytes=1))
    assert answers(gate, Sent(*[bytes(1 << 19)] * 100)) == [
        (400, "body is larger than 1048576 bytes; expected at most that many")
    ]
    assert answers(gate, Sent(b"next")) == [(200, "next")]


def test_bodies_together_keep_a_limit_too():
    gate = RequestLimiter(lambda body: b"1", Limits(megabytes=1))
    all_sent = asyncio.Barrier(12)
    found = answers(gate, *[Sent(bytes(1 << 20), barrier=all_sent) for _ in range(12)])
    assert found.count((200, 1)) == 8
    assert found.count((503, "busy: other requests fill the memory; try again later")) == 4
    assert answers(gate, *[Sent(bytes(1 << 20)) for _ in range(8)]) == [(200, 1)] * 8


def test_a_fault_of_ours_is_told_to_the_log_alone(caplog):
    def fail(body):
        raise KeyError("Doe^Jane")

    assert answers(RequestLimiter(fail, Limits()), Sent(b"x")) == [
        (500, "the server could not answer; its log tells why")
    ]
    assert "KeyError" in caplog.text


def test_a_reason_is_one_line_of_bounded_length():
    def refuse(body):
        raise InputError("first\nsecond\x1b[31m" + "x" * 1000)

    ((status, message),) = answers(RequestLimiter(refuse, Limits()), Sent(b"x"))
    assert status == 400 and message.isprintable() and message.startswith("first second [31mx") and len(message) == 400


def test_so_many_wait_and_no_more_and_not_too_long():
    free, working = threading.Event(), threading.Event()

    def slow(body):
        working.set()
        free.wait(60)
        return b"1"

    gate = RequestLimiter(slow, Limits(waiting=4, seconds=1))
    threading.Timer(2.0, free.set).start()
    found = answers(gate, *[Sent(b"x") for _ in range(7)])
    assert working.is_set()
    assert found[:2] == [(200, 1)] * 2
    assert found[2:4] == [(503, "busy: waited 1 seconds; try again later")] * 2
    assert found[4:] == [(503, "busy: 4 requests are waiting; try again later")] * 3


def test_bodies_that_drip_keep_nobody_from_a_place():
    gate = RequestLimiter(echo, Limits(waiting=4, seconds=2))
    dripping = [Sent(*[b"x"] * 100, pause=0.05) for _ in range(33)]
    good = [Sent(b"good") for _ in range(4)]
    found = answers(gate, *dripping, *good)
    assert found[:33] == [(408, "the body did not arrive within 2 seconds")] * 33
    assert found[33:] == [(200, "good")] * 4
    assert answers(gate, Sent(b"next")) == [(200, "next")]


def test_beyond_so_many_bodies_on_their_way_the_oldest_is_cut_off():
    gate = RequestLimiter(echo, Limits(waiting=2, seconds=2))
    found = answers(gate, *[Sent(*[b"x"] * 100, pause=0.05) for _ in range(40)], Sent(b"go", b"od", pause=0.05))
    assert found[:9] == [(503, "busy: too many bodies arrive slowly; try again later")] * 9
    assert {status for status, _ in found[9:40]} == {408}
    assert found[40] == (200, "good")


def test_limits_come_from_the_environment():
    assert limits_from_environment({}) == Limits()
    given = limits_from_environment({"MRCNN_SERVE_IMAGES": "2", "MRCNN_SERVE_MEGABYTES": "3"})
    assert (given.images, given.bytes, given.pixels) == (2, 3 << 20, 16 << 20)
    for text in ("0", "-1", "1.5", "many", "", "9" * 5000):
        with pytest.raises(InputError, match=f"MRCNN_SERVE_SECONDS={text}: expected a whole number from 1"):
            limits_from_environment({"MRCNN_SERVE_SECONDS": text})


def test_the_guard_stands_only_where_mlflow_loads_a_model_to_serve_it(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, f"{SERVER}.app", raising=False)
    assert not install_limits(None)
    server = ModuleType(SERVER)
    monkeypatch.setitem(sys.modules, SERVER, server)
    monkeypatch.setitem(sys.modules, f"{SERVER}.app", ModuleType("app"))
    assert not install_limits(None)
    assert "requests are not limited" in caplog.text
    setattr(server, DECORATOR, None)
    assert install_limits(lambda images, params: [{"shape": list(image.pixels.shape)} for image in images])
    enter = getattr(server, DECORATOR)("MLflow's own endpoint")
    body = b'{"inputs": [[[1, 2, 3], [4, 5, 6]]]}'
    response = asyncio.run(enter(Sent(body, **{"content-type": "application/json"})))
    assert json.loads(response.body) == {"predictions": [{"shape": [2, 3]}]}
