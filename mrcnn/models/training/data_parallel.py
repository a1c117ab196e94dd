"""Training on several devices of one machine: each takes its part of every batch, and they add up the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import keras
from keras import ops

from mrcnn.errors import InputError


@contextmanager
def make_data_parallel(devices: int | Literal["all"], batch_size: int) -> Iterator[None]:
    """Models that are built and trained in the body divide each batch among the devices.

    The body holds one training: `mrcnn.backend.clear_session` ends it.

    On JAX the compiler divides the one program that a single device would run; on TensorFlow each device runs the model
    with its own rows, in order, and `mrcnn.models.training.data_parallel` brings together what depends on all of them.
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


def num_replicas() -> int:
    """How many share a batch of the models that are built and trained here."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _context():
    """That of the replica, one of several, in whose step this is called; None outside of such a step."""
    if num_replicas() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def all_reduce(total):
    """The sum of `total` over the replicas: of what each has summed over its rows, that of the whole batch."""
    context = _context()
    return total if context is None else context.all_reduce("SUM", total)


def per_replica(value):
    """The replica's part of a value that is a mean over its rows, or that all replicas have in common.

    The parts add up to the value of the whole batch.
    """
    return value if _context() is None else value / num_replicas()


def scale_to_global(value):
    """Of a replica's part such that its mean over the replicas is the value of the whole batch."""
    return value if _context() is None else value * num_replicas()


def random_uniform(shape: tuple, seed: keras.random.SeedGenerator):
    """Random numbers (rows, …) in [0, 1): those that a single device would draw for these rows of the batch."""
    if _context() is None:
        return keras.random.uniform(shape, seed=seed)
    rows, *others = shape
    return _own_rows(keras.random.uniform((rows * num_replicas(), *others), seed=seed))


def _own_rows(values):
    """Of (replicas · b, …) those of this replica, (b, …): the first has the first."""
    return ops.reshape(values, (num_replicas(), -1, *values.shape[1:]))[_context().replica_id_in_sync_group]


class PassThroughStrategy:
    """What Keras's trainer takes for a strategy of `tf.distribute` where it shall hand on whole batches."""

    @staticmethod
    def run(function: Callable, args: tuple):
        return function(*args)

    @staticmethod
    def experimental_distribute_dataset(dataset):
        return dataset


def run_on_replicas(step: Callable, data: tuple) -> dict:
    """`step` of each replica's rows; of the numbers that it returns by name, the means over the replicas."""
    import tensorflow as tf

    def on_replica(batch):
        # Where the batch lies: a GPU shall be sent its own rows alone.
        with tf.device("/CPU:0"):
            own = {name: _own_rows(values) for name, values in batch.items()}
        return step((own,))

    batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    strategy = tf.distribute.get_strategy()
    logs = strategy.run(on_replica, args=(batch,))
    return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}


def apply_global_gradients(loss: Callable, weights: list[keras.Variable], optimizer: keras.optimizers.Optimizer):
    """Update the weights by the gradients of the whole batch's loss, of which `loss` gives the replica's part.

    Keras clips a replica's gradients, and then adds up those of all; so they are added up and clipped before, and each
    hands in an equal part of the result, which clipping leaves as it is.

    Returns:
        The replica's part.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        own = loss()
    gradients = _context().all_reduce("SUM", tape.gradient(own, weights))
    optimizer.apply([per_replica(gradient) for gradient in optimizer._clip_gradients(gradients)], weights)
    return own
