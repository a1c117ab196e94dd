"""Training on several devices of one machine: each takes its part of every batch, and they add up the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras

from mrcnn.errors import InputError


@contextmanager
def make_data_parallel(devices: int | Literal["all"], batch_size: int) -> Iterator[None]:
    """Models that are built and trained in the body divide each batch among the devices.

    The body holds one training: `mrcnn.models.session.clear_session` ends it.

    On JAX the compiler divides the one program that a single device would run; on TensorFlow each device runs the model
    with its own rows, in order, and `mrcnn.models.training.replicas` brings together what depends on all of them.
    Either way random
    samples, counts over the batch, statistics of batch norm and the clipping of gradients are those of the whole batch,
    and a step is the same up to the order of sums. One device, also where `all` finds no more, changes nothing.

    Raises:
        InputError: there are not so many, or the batch cannot be divided evenly.
    """
    chosen = select_devices(devices, batch_size)
    if not chosen:
        yield
    elif keras.backend.backend() == "jax":
        with keras.distribution.DataParallel(devices=chosen).scope():
            yield
    else:
        import tensorflow as tf

        with tf.distribute.MirroredStrategy(chosen).scope():
            yield


def select_devices(devices: int | Literal["all"], batch_size: int) -> list[str]:
    """The names of those that will share a batch, none for one device. Raises `InputError` as `make_data_parallel`
    does."""
    if devices == 1:
        return []
    present = keras.distribution.list_devices() if keras.backend.backend() == "jax" else _tensorflow_devices()
    count = len(present) if devices == "all" else devices
    if count > len(present):
        raise InputError(f"devices={devices}: expected 1 to {len(present)}, the devices that are there, or all")
    if batch_size % count:
        raise InputError(f"batch_size={batch_size}: expected a multiple of {count}, the devices that share it")
    return present[:count] if count > 1 else []


def _tensorflow_devices() -> list[str]:
    import tensorflow as tf

    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]
