"""Iterate in background threads, so that the next items are ready when they are needed."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_SECONDS = 0.5  # interval of `on_wait`
_SHUTDOWN_SECONDS = 5.0  # wait of `close` for the current item of the thread


def map_in_threads(function: Callable[[Item], Iterable[Result]], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of `function` for each of `items`, in order; one thread per core computes a few items ahead."""
    cores = os.cpu_count() or 1
    ahead: deque[Future[Iterable[Result]]] = deque()
    with ThreadPoolExecutor(cores) as threads:
        for item in items:
            ahead.append(threads.submit(function, item))
            if len(ahead) > 2 * cores:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()


class Prefetcher(Generic[Item]):
    """Iterate over `source` in a thread, at most `depth` items ahead of the consumer.

    An error of the source is raised in place of its next item. `close` ends the thread after its current item; a
    blocked thread is abandoned.

    Args:
        source: items to prefetch.
        depth: number of items to keep ready.
        on_wait: called every half second while waiting for an item, with the seconds waited; an error that it raises
            ends the wait. Time while the process is suspended does not count.
    """

    def __init__(
        self, source: Iterable[Item], depth: int, on_wait: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self._depth = depth
        self._on_wait = on_wait
        self._ready: deque[Item] = deque()
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._changed = threading.Condition()
        # A daemon thread does not block the end of the program.
        self._thread = threading.Thread(target=self._run, args=(source,), name="prefetch", daemon=True)
        self._thread.start()

    def _run(self, source: Iterable[Item]) -> None:
        error = None
        try:
            for item in source:
                with self._changed:
                    self._ready.append(item)
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._closed or len(self._ready) < self._depth)
                    if self._closed:
                        return
        except BaseException as raised:  # noqa: BLE001 - raised again where the items are taken
            error = raised
        with self._changed:
            self._error, self._ended = error, True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        waited = 0.0
        with self._changed:
            while not self._changed.wait_for(lambda: self._ready or self._ended or self._closed, _POLL_SECONDS):
                waited += _POLL_SECONDS
                self._on_wait(waited)
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread, and drop the items that are ready."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join(_SHUTDOWN_SECONDS)
