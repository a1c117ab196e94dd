"""Batches for `fit`, across epochs without a pause between them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count

import keras

_READY = 2
"""Batches that TensorFlow holds ready besides those of the loader."""


def stream(loader, first_epoch: int = 0, skipped: int = 0) -> Iterator[tuple[dict]]:
    """Endless batches of a `Loader`, epoch by epoch; pass `steps_per_epoch=len(loader)` to `fit`.

    The next epoch's first batches are made while the last one is validated. `skipped` batches at the beginning are left
    out, and not made.
    """
    whole, first = divmod(skipped, len(loader))
    for epoch in count(first_epoch + whole):
        for batch in loader.epoch(epoch, first if epoch == first_epoch + whole else 0):
            yield (batch,)


@contextmanager
def for_fit(loader, first_epoch: int = 0, skipped: int = 0):
    """A `stream` as `fit` takes it, whose worker processes and threads end with this, however `fit` did.

    Of a bare generator Keras makes a dataset with buffers that a thread tunes. Whoever lets go of that dataset waits
    for the thread, which sleeps for up to a minute (TensorFlow 2.21); and TensorFlow never lets go of the generator.
    """
    batches = stream(loader, first_epoch, skipped)
    try:
        yield _untuned(batches) if keras.backend.backend() == "tensorflow" else batches
    finally:
        _close(batches)


def _untuned(batches: Iterator[tuple[dict]]):
    import tensorflow as tf

    first = next(batches)
    options = tf.data.Options()
    options.autotune.enabled = False
    # As Keras describes a generator's batches: of any number of images.
    signature = ({name: tf.TensorSpec((None, *values.shape[1:]), values.dtype) for name, values in first[0].items()},)
    dataset = tf.data.Dataset.from_generator(lambda: chain([first], batches), output_signature=signature)
    return dataset.prefetch(_READY).with_options(options)


def _close(batches: Iterator[tuple[dict]]) -> None:
    while True:
        try:
            batches.close()
        except ValueError:
            # A thread of TensorFlow is inside; after an error in a step it still fills its buffer.
            time.sleep(0.01)
        else:
            return
