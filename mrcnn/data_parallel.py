"""Training on several devices of one machine: each takes its part of every batch, and they add up the gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras

from mrcnn.errors import InputError


@contextmanager
def data_parallel(devices: int | Literal["all"], batch_size: int) -> Iterator[None]:
    """Models that are built and trained by `train_on_batch` in the body divide each batch among the devices.

    On JAX the compiler divides the one program that a single device would run. So random samples, counts over the
    batch and the clipping of gradients are those of the whole batch, and a step is the same up to the order of sums.
    One device, also where `all` finds no more, changes nothing.

    Raises:
        InputError: there are not so many, the batch cannot be divided evenly, or the backend is not JAX.
    """
    if devices == 1:
        yield
        return
    on_jax = keras.backend.backend() == "jax"
    present = keras.distribution.list_devices() if on_jax else _tensorflow_devices()
    count = len(present) if devices == "all" else devices
    if count > len(present):
        raise InputError(f"devices={devices}: expected 1 to {len(present)}, the devices that are there, or all")
    if count == 1:
        yield
        return
    if not on_jax:
        raise InputError(
            f"devices={devices}: expected 1 on {keras.backend.backend()}; KERAS_BACKEND=jax trains on several"
        )
    if batch_size % count:
        raise InputError(f"batch_size={batch_size}: expected a multiple of {count}, the devices that share it")
    with keras.distribution.DataParallel(devices=present[:count]).scope():
        yield


def _tensorflow_devices() -> list:
    import tensorflow as tf

    return tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
