"""Train on several devices of one machine: each computes its rows of every batch, and the gradients are summed.

On JAX the compiler divides the program of a single device. On TensorFlow a replica of the model runs on each device,
and the functions below combine values that depend on the whole batch. On JAX and with one device there is one replica,
and these functions return their argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import keras

from mrcnn.backend import Tensor, ops
from mrcnn.errors import InputError


@contextmanager
def make_data_parallel(devices: int | Literal["all"], batch_size: int) -> Iterator[None]:
    """Divide each batch among the devices for models that are built and trained in the `with` block.

    The block is for one training, which `mrcnn.backend.clear_session` ends.

    Random samples, counts over the batch, statistics of batch normalization and the clipping of gradients refer to the
    whole batch, so a step equals that of one device up to the order of sums. With one device nothing changes.

    Raises:
        InputError: the machine has fewer devices, or the batch cannot be divided evenly.
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
    """Return the names of the devices that share a batch, or an empty list for one device.

    Raises:
        InputError: as `make_data_parallel`.
    """
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
    """Return the number of replicas that share a batch."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _context() -> Any:
    """Return the context of the current replica, or None outside the step of one of several replicas."""
    if num_replicas() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def all_reduce(total: Tensor) -> Tensor:
    """Return the sum of `total` over the replicas: from sums over their rows the sum over the whole batch."""
    context = _context()
    return total if context is None else context.all_reduce("SUM", total)


def per_replica(value: Tensor) -> Tensor:
    """Divide a mean over the replica's rows, or a value common to all, by the number of replicas.

    The sum over the replicas is the value of the whole batch.
    """
    return value if _context() is None else value / num_replicas()


def scale_to_global(value: Tensor) -> Tensor:
    """Multiply a replica's part so that the mean over the replicas is the value of the whole batch."""
    return value if _context() is None else value * num_replicas()


def random_uniform(shape: tuple, seed: keras.random.SeedGenerator) -> Tensor:
    """Return random numbers (rows, …) in [0, 1), equal to those of a single device for these rows of the batch."""
    if _context() is None:
        return keras.random.uniform(shape, seed=seed)
    rows, *others = shape
    return _replica_rows(keras.random.uniform((rows * num_replicas(), *others), seed=seed))


def _replica_rows(values: Tensor) -> Tensor:
    """Return the rows (b, …) of this replica from (replicas · b, …)."""
    return ops.reshape(values, (num_replicas(), -1, *values.shape[1:]))[_context().replica_id_in_sync_group]


class PassThroughStrategy:
    """Stand in for a strategy of `tf.distribute` in Keras's trainer and pass on whole batches."""

    @staticmethod
    def run(function: Callable, args: tuple) -> Any:
        return function(*args)

    @staticmethod
    def experimental_distribute_dataset(dataset: Any) -> Any:
        return dataset


def run_on_replicas(step: Callable, data: tuple) -> dict:
    """Run `step` on the rows of each replica and return the means of its named values over the replicas."""
    import tensorflow as tf

    def on_replica(batch: Any) -> Any:
        # The batch is in host memory; each GPU receives only its own rows.
        with tf.device("/CPU:0"):
            rows = {name: _replica_rows(values) for name, values in batch.items()}
        return step((rows,))

    batch, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    strategy = tf.distribute.get_strategy()
    logs = strategy.run(on_replica, args=(batch,))
    return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}


def apply_global_gradients(
    loss: Callable, weights: list[keras.Variable], optimizer: keras.optimizers.Optimizer
) -> Tensor:
    """Update the weights with the gradients of the loss of the whole batch; `loss` returns the replica's part of it.

    Keras clips the gradients of each replica before it sums them. Here they are summed and clipped first, and each
    replica applies an equal part, which clipping does not change.

    Returns:
        The replica's part of the loss.
    """
    import tensorflow as tf

    with tf.GradientTape() as tape:
        part = loss()
    gradients = _context().all_reduce("SUM", tape.gradient(part, weights))
    optimizer.apply([per_replica(gradient) for gradient in optimizer._clip_gradients(gradients)], weights)
    return part
