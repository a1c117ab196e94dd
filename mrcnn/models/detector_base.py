"""Keras models whose losses are their own, so that `fit` and `train_on_batch` need nothing but batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Self

import keras
import numpy as np
from pydantic import BaseModel

from mrcnn.backend import computes_in_bfloat16
from mrcnn.models.training.data_parallel import (
    PassThroughStrategy,
    apply_global_gradients,
    num_replicas,
    per_replica,
    run_on_replicas,
    scale_to_global,
)


class DetectorBase(keras.Model):
    """A model that returns its losses by name where the batch holds the truth, else its outputs.

    It is made, and made again from its file, from a configuration, a seed, a precision and a name.

    Attributes:
        config_class: of the configuration.
        config: the configuration.
        seed: as it was given.
        loss_means: running means of the losses, which are the metrics; their names are those of the losses.
    """

    config_class: ClassVar[type[BaseModel]]
    loss_means: list[keras.metrics.Mean]

    def __init__(self, config: BaseModel, *, seed: int, dtype, name: str):
        # No automatic cast: boxes must stay float32 under mixed precision. The layers below cast for themselves.
        super().__init__(name=name, dtype=dtype, autocast=False)
        self.config = config
        self.seed = seed
        if num_replicas() > 1:
            # Else Keras would learn the shapes from the mean of the replicas' first batches, a batch that is then lost.
            self._distribute_strategy = None

    @contextmanager
    def own_policy(self) -> Iterator[None]:
        """Layers that are made within have the precision of this model."""
        outside = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(outside)

    def with_settings(self, **changes) -> Self:
        """The same weights under a configuration with `changes`, which must leave the architecture as it is."""
        copy = type(self)(self.config.model_copy(update=changes), seed=self.seed, dtype=self.dtype_policy)
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self):
        return {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config):
        """The model of a file; of one in mixed_bfloat16, in float32 where the device computes in that alone."""
        config = dict(config)
        policy = keras.saving.deserialize_keras_object(config.pop("dtype"))
        if getattr(policy, "name", policy) == "mixed_bfloat16" and not computes_in_bfloat16():
            policy = "float32"  # what it was trained in would take tens of times as long there
        return cls(cls.config_class.model_validate(config.pop("config")), **config, dtype=policy)

    def compile(self, optimizer="sgd", *, jit_compile="auto", **kwargs):
        """As `keras.Model.compile`; the losses are the model's own.

        `jit_compile="auto"` means XLA on JAX, where it is the only way to run, and none on TensorFlow, whose own CPU
        kernels are faster than what XLA makes of the convolutions.
        """
        if jit_compile == "auto":
            jit_compile = keras.backend.backend() == "jax"
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self):
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)} if self.compiled else None

    def compile_from_config(self, config):
        self.compile(optimizer=keras.saving.deserialize_keras_object(config["optimizer"]))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum of the losses, whose running means are the metrics."""
        del x, y, sample_weight, training
        for mean in self.loss_means:
            mean.update_state(scale_to_global(y_pred[mean.name]))
        return sum(y_pred[mean.name] for mean in self.loss_means) + sum(map(per_replica, self.losses))

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

    # -- several replicas ----------------------------------------------------------------------------------------------

    @property
    def distribute_strategy(self):
        """Of Keras's trainer on TensorFlow. Batches are divided in the steps here, and predictions not at all."""
        return super().distribute_strategy if num_replicas() == 1 else PassThroughStrategy()

    def make_train_function(self, force=False):
        if not self.optimizer.built:
            # TensorFlow would trace the step twice, to make them and without, and cannot make those of several devices.
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, *given):
        """As `keras.Model.train_step`, which is another on each backend."""
        return super().train_step(*given) if num_replicas() == 1 else run_on_replicas(self._train_on_part, *given)

    def test_step(self, *given):
        return super().test_step(*given) if num_replicas() == 1 else run_on_replicas(super().test_step, *given)

    def _train_on_part(self, data):
        (batch,) = data

        def loss():
            return self.compute_loss(y_pred=self(batch, training=True))

        self._loss_tracker.update_state(
            scale_to_global(apply_global_gradients(loss, self.trainable_weights, self.optimizer))
        )
        return self.get_metrics_result()

    # -- images alone --------------------------------------------------------------------------------------------------

    def predict(self, x, **kwargs):
        """As `keras.Model.predict`, on the images alone where the batches carry the truth too."""
        return super().predict(_images_only(x), **kwargs)

    def predict_on_batch(self, x):
        return super().predict_on_batch(_images_only(x))


def in_batches(prepared: list[np.ndarray], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Arrays of one shape as batches of one size, the last filled up with zeros, so that one trace serves all; and how
    many of each batch are meant."""
    for start in range(0, len(prepared), batch_size):
        chosen = prepared[start : start + batch_size]
        batch = np.zeros((batch_size, *chosen[0].shape), np.float32)
        batch[: len(chosen)] = chosen
        yield batch, len(chosen)


def _images_only(x):
    if isinstance(x, dict):
        return {name: x[name] for name in ("image", "window") if name in x}
    if isinstance(x, np.ndarray):
        return {"image": x}
    return (({"image": (batch[0] if isinstance(batch, tuple) else batch)["image"]},) for batch in x)
