"""Handle Ctrl-C and SIGTERM once, and never while the start or end of a run is being written."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived, for example from a batch system."""


class Pruned(Exception):
    """The pruner stopped a training; its run ends KILLED, and nothing has failed."""


class SignalHandler:
    """Raise KeyboardInterrupt for SIGINT and `Terminated` for SIGTERM in the main thread.

    Signals wait until `release()`, and again after `hold()`; a waiting one is raised by `release()`, or at the end if
    there is no other exception. After the first signal SIGTERM is ignored: `mlflow run` sends one to its command
    directly after a Ctrl-C, which would interrupt the clean-up. At the end the previous handlers are restored. Outside
    the main thread, where Python delivers no signals, this does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._held = True
        self._stopped = False
        self._waiting: KeyboardInterrupt | None = None
        self._raised: KeyboardInterrupt | None = None

    def __enter__(self) -> SignalHandler:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                before = signal.getsignal(number)
                # An ignored signal remains ignored (nohup, background jobs). A handler from outside Python, which
                # reads as None, could not be restored.
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._waiting is not None and error is None:
            raise self._waiting
        if isinstance(error, KeyboardInterrupt) and self._raised is not None and error is not self._raised:
            # C code can replace the exception that was raised in it.
            raise self._raised

    def release(self) -> None:
        """Raise signals immediately from now on, and a waiting one now."""
        self._held = False
        if self._waiting is not None:
            self._raised, self._waiting = self._waiting, None
            raise self._raised

    def hold(self) -> None:
        """Let signals wait from now on."""
        self._held = True

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        if self._stopped and number == signal.SIGTERM:
            return
        self._stopped = True
        stop = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if not self._held:
            self._raised = stop
            raise stop
        self._waiting = stop
