"""Batches for `fit`, across epochs without a pause between them."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, count

import keras

_READY = 2
"""Batches that TensorFlow holds ready besides those of the loader."""
_LONGEST_END = 20.0
"""Seconds that a thread of TensorFlow may take to leave the batches."""


def repeat_epochs(
    loader, first_epoch: int = 0, skipped: int = 0, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[dict]]:
    """Endless batches of a `Loader`, epoch by epoch; pass `steps_per_epoch=len(loader)` to `fit`.

    The next epoch's first batches are made while the last one is validated. `skipped` batches at the beginning are left
    out, and not made. `stopped`: see `Loader.epoch`.
    """
    whole, first = divmod(skipped, len(loader))
    for epoch in count(first_epoch + whole):
        for batch in loader.epoch(epoch, first if epoch == first_epoch + whole else 0, stopped):
            yield (batch,)


@contextmanager
def training_batches(loader, first_epoch: int = 0, skipped: int = 0):
    """A `repeat_epochs` as `fit` takes it, whose worker processes and threads end with this, however `fit` did.

    What the loader raises is raised from this as it is, and a stop signal ends the wait for a batch.

    Of a bare generator Keras makes a dataset with buffers that a thread tunes. Whoever lets go of that dataset waits
    for the thread, which sleeps for up to a minute (TensorFlow 2.21); and TensorFlow never lets go of the generator.
    """
    if keras.backend.backend() != "tensorflow":
        batches = repeat_epochs(loader, first_epoch, skipped)
        try:
            yield batches
        finally:
            batches.close()
        return
    import tensorflow as tf

    over = threading.Event()
    raised: list[BaseException] = []
    with _stop_signals() as signalled:
        batches = repeat_epochs(loader, first_epoch, skipped, lambda: over.is_set() or signalled())
        try:
            yield _untuned(batches, raised)
        except Exception as error:
            # TensorFlow makes a text of what the loader raises, and of a stop signal that meets this on the way.
            if raised and (isinstance(error, tf.errors.OpError) or isinstance(raised[0], KeyboardInterrupt)):
                raise raised[0] from None
            raise
        finally:
            over.set()
            _close(batches)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether Ctrl-C or SIGTERM has arrived, in any thread and at once.

    The handlers themselves wait for the main thread, which runs no Python while TensorFlow waits in it for a batch.
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
            signal.set_wakeup_fd(before)  # an event loop's, which needs it
        try:
            yield signalled
        finally:
            signal.set_wakeup_fd(before)


def _untuned(batches: Iterator[tuple[dict]], raised: list[BaseException]):
    """Batches as a dataset; what ends them early is put into `raised`."""
    import tensorflow as tf

    first = next(batches)
    options = tf.data.Options()
    options.autotune.enabled = False
    # As Keras describes a generator's batches: of any number of images.
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
    return dataset.prefetch(_READY).with_options(options)


def _close(batches: Iterator[tuple[dict]]) -> None:
    end = time.monotonic() + _LONGEST_END
    while time.monotonic() < end:
        try:
            batches.close()
        except ValueError:
            # A thread of TensorFlow is inside; after an error in a step it still fills its buffer.
            time.sleep(0.01)
        else:
            return
