"""Ctrl-C and SIGTERM, made to arrive once and never in the middle of writing a run's beginning or end."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived, as a batch system or `kill` sends it."""


class Pruned(Exception):
    """A training was given up because others promise more: its run ends KILLED, and nothing has failed."""


class SignalHandler:
    """While entered, SIGINT raises KeyboardInterrupt and SIGTERM `Terminated`, in the main thread.

    They are held from entering until `release()`, and again after `hold()`; a held one is raised by `release()`, or on
    leaving if no other exception is under way. After a first stop SIGTERM is ignored: `mlflow run` sends one to its
    command right after a Ctrl-C, which would otherwise break the clean-up that the first has begun. The handlers that
    stood before are put back on leaving. Outside the main thread Python delivers no signals and this does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, object] = {}
        self._held = True
        self._stopped = False
        self._waiting: KeyboardInterrupt | None = None
        self._raised: KeyboardInterrupt | None = None

    def __enter__(self) -> SignalHandler:
        if threading.current_thread() is threading.main_thread():
            for number in STOPS:
                before = signal.getsignal(number)
                # An ignored signal stays ignored (nohup, background jobs), and a handler from outside Python, which
                # reads as None, could not be put back.
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = before
                    signal.signal(number, self._arrived)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._waiting is not None and error is None:
            raise self._waiting
        if isinstance(error, KeyboardInterrupt) and self._raised is not None and error is not self._raised:
            # Code in C lost the stop that was raised in it, and who called that raised another in its place.
            raise self._raised

    def release(self) -> None:
        """From now on a stop is raised where it arrives; one that arrived before is raised now."""
        self._held = False
        if self._waiting is not None:
            self._raised, self._waiting = self._waiting, None
            raise self._raised

    def hold(self) -> None:
        """From now on a stop waits."""
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
