"""Feed batches to `fit` across epochs without a pause."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain, count
from typing import Any

import keras

from mrcnn.data.loading.loader import Loader

_PREFETCH = 2
"""Batches in the buffer of TensorFlow, in addition to those of the loader."""
_CLOSE_TIMEOUT = 20.0
"""Seconds to wait for a thread of TensorFlow to release the batches."""


def repeat_epochs(
    loader: Loader, first_epoch: int = 0, skipped: int = 0, stopped: Callable[[], bool] = lambda: False
) -> Generator[tuple[dict]]:
    """Yield batches of a `Loader` without end, epoch by epoch; `fit` needs `steps_per_epoch=len(loader)`.

    The loader builds the first batches of the next epoch during the validation of the current one.

    Args:
        loader: source of the batches.
        first_epoch: index of the first epoch.
        skipped: number of batches to skip at the beginning; they are not built.
        stopped: see `Loader.epoch`.
    """
    whole, first = divmod(skipped, len(loader))
    for epoch in count(first_epoch + whole):
        for batch in loader.epoch(epoch, first if epoch == first_epoch + whole else 0, stopped):
            yield (batch,)


@contextmanager
def training_batches(loader: Loader, first_epoch: int = 0, skipped: int = 0) -> Iterator[Any]:
    """Provide the batches of `repeat_epochs` in a form for `fit`, and end its workers and threads on exit.

    Exceptions of the loader propagate unchanged, and a stop signal ends the wait for a batch.

    Keras would convert a plain generator to a dataset with autotuned buffers. Its release waits up to a minute for a
    sleeping thread (TensorFlow 2.21), and TensorFlow never releases the generator.
    """
    if keras.backend.backend() != "tensorflow":
        batches = repeat_epochs(loader, first_epoch, skipped)
        try:
            yield batches
        finally:
            batches.close()
        return
    import tensorflow as tf

    ended = threading.Event()
    raised: list[BaseException] = []
    with _stop_signals() as signalled:
        batches = repeat_epochs(loader, first_epoch, skipped, lambda: ended.is_set() or signalled())
        try:
            yield _make_dataset(batches, raised)
        except Exception as error:
            # TensorFlow converts exceptions of the loader, and stop signals during it, to an error with their text.
            if raised and (isinstance(error, tf.errors.OpError) or isinstance(raised[0], KeyboardInterrupt)):
                raise raised[0] from None
            raise
        finally:
            ended.set()
            _close(batches)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Provide a function that returns whether Ctrl-C or SIGTERM has arrived, immediately and in any thread.

    Python's signal handlers run in the main thread only, which runs no Python while TensorFlow waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    arrived = threading.Event()
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)

        def signalled() -> bool:
            try:
                if {signal.SIGINT, signal.SIGTERM} & set(reader.recv(4096)):
                    arrived.set()
            except BlockingIOError:
                pass
            return arrived.is_set()

        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)  # an event loop needs its own
        try:
            yield signalled
        finally:
            signal.set_wakeup_fd(before)


def _make_dataset(batches: Iterator[tuple[dict]], raised: list[BaseException]) -> Any:
    """Convert batches to a dataset without autotuning; an exception that ends them is appended to `raised`."""
    import tensorflow as tf

    first = next(batches)
    options = tf.data.Options()
    options.autotune.enabled = False
    # The batch size is not static, as Keras specifies for generators.
    signature = ({name: tf.TensorSpec((None, *values.shape[1:]), values.dtype) for name, values in first[0].items()},)

    def generate() -> Iterator[tuple[dict]]:
        try:
            yield from chain([first], batches)
        except GeneratorExit:
            raise
        except BaseException as error:
            raised.append(error)
            raise

    dataset = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return dataset.prefetch(_PREFETCH).with_options(options)


def _close(batches: Generator[tuple[dict]]) -> None:
    """Close the generator as soon as no thread runs it."""
    end = time.monotonic() + _CLOSE_TIMEOUT
    while time.monotonic() < end:
        try:
            batches.close()
        except ValueError:
            # A thread of TensorFlow runs the generator: after an error in a step it still fills its buffer.
            time.sleep(0.01)
        else:
            return
