"""An iterator that is run in the background, so that its next items are ready when they are wanted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_PAUSE = 0.5  # seconds between two looks at whether waiting still makes sense
_LONGEST_END = 5.0  # seconds that `close` waits for the item that the thread is at


class Prefetcher(Generic[Item]):
    """Iterates over `source` in a thread, at most `depth` items ahead of who iterates over this.

    What the source raises is raised where its next item would have come. `close` ends the thread, after the item that
    it is at; a thread that does not come back from that is left behind.

    Args:
        on_wait: called twice a second while an item is awaited, with the seconds waited so far; what it raises ends
            the wait. Seconds in which the whole process was suspended do not count.
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
        # A daemon, so that a program which forgets to close does not hang at its end.
        self._thread = threading.Thread(target=self._run, args=(source,), name="batches ahead", daemon=True)
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
            while not self._changed.wait_for(lambda: self._ready or self._ended or self._closed, _PAUSE):
                waited += _PAUSE
                self._on_wait(waited)
            if self._ready:
                self._changed.notify_all()
                return self._ready.popleft()
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        self._thread.join(_LONGEST_END)
