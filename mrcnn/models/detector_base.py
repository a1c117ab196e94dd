"""Base class of Keras models that compute their own losses, so that `fit` and `train_on_batch` need only batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np
from pydantic import BaseModel

from mrcnn.backend import Tensor, computes_in_bfloat16
from mrcnn.models.training.data_parallel import (
    PassThroughStrategy,
    apply_global_gradients,
    num_replicas,
    per_replica,
    run_on_replicas,
    scale_to_global,
)


class DetectorBase(keras.Model):
    """A model that returns its losses by name if the batch contains the ground truth, and its outputs otherwise.

    A configuration, a seed, a precision and a name construct the model, also from its file.

    Attributes:
        config_class: type of the configuration.
        config: the configuration, an instance of `config_class`.
        seed: the constructor's argument.
        loss_means: running means of the losses, named as the losses; they are the model's metrics.
        submodels: the functional models that form the network; names of layers with weights are unique over all.
    """

    config_class: ClassVar[type[BaseModel]]
    config: Any
    loss_means: list[keras.metrics.Mean]
    submodels: tuple[keras.Model, ...]

    def __init__(self, config: BaseModel, *, seed: int, dtype: str | keras.DTypePolicy | None, name: str) -> None:
        # No automatic cast: boxes stay float32 under mixed precision, and each layer casts its own inputs.
        super().__init__(name=name, dtype=dtype, autocast=False)
        self.config = config
        self.seed = seed
        if num_replicas() > 1:
            # Otherwise Keras builds from the mean of the replicas' first batches, and that batch is lost.
            self._distribute_strategy = None

    @contextmanager
    def dtype_scope(self) -> Iterator[None]:
        """Create layers in the `with` block with the dtype policy of this model."""
        previous = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            yield
        finally:
            keras.config.set_dtype_policy(previous)

    def with_settings(self, **changes: Any) -> Self:
        """Return a copy with the same weights and `changes` to the configuration that keep the architecture."""
        config = self.config.model_copy(update=changes)
        copy = type(self)(config, seed=self.seed, dtype=self.dtype_policy, name=self.name)
        copy.set_weights(self.get_weights())
        return copy

    def get_config(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "name": self.name,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Construct the model of a file, with float32 for mixed_bfloat16 if the device has no fast bfloat16."""
        config = dict(config)
        policy = keras.saving.deserialize_keras_object(config.pop("dtype"))
        if getattr(policy, "name", policy) == "mixed_bfloat16" and not computes_in_bfloat16():
            policy = "float32"  # bfloat16 would take tens of times as long
        return cls(cls.config_class.model_validate(config.pop("config")), **config, dtype=policy)

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "sgd",
        *,
        jit_compile: bool | Literal["auto"] = "auto",
        **kwargs: Any,
    ) -> None:
        """Configure training as `keras.Model.compile`, with the losses of the model itself.

        `jit_compile="auto"` selects XLA on JAX, which needs it, and not on TensorFlow, whose CPU kernels for
        convolutions are faster than those of XLA. There the graph of predictions, which reads the weights by reference
        and depends on no optimizer, stays.
        """
        if jit_compile == "auto":
            jit_compile = keras.backend.backend() == "jax"
        special = self.compiled and (self.jit_compile or self.run_eagerly)
        stays = keras.backend.backend() == "tensorflow" and not (jit_compile or kwargs or special)
        predict = self.predict_function if stays else None
        super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)
        self.predict_function = predict

    def get_compile_config(self) -> dict[str, Any] | None:
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)} if self.compiled else None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(optimizer=keras.saving.deserialize_keras_object(config["optimizer"]))
        self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the sum of the losses and update their running means."""
        del x, y, sample_weight, training
        for mean in self.loss_means:
            mean.update_state(scale_to_global(y_pred[mean.name]))
        return sum(y_pred[mean.name] for mean in self.loss_means) + sum(map(per_replica, self.losses))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Tensor]:
        return self.get_metrics_result()

    @property
    def distribute_strategy(self) -> Any:
        """Strategy of Keras's trainer on TensorFlow. The steps here divide the batches; predictions are not divided."""
        return super().distribute_strategy if num_replicas() == 1 else PassThroughStrategy()

    def make_train_function(self, force: bool = False) -> Callable:
        if not self.optimizer.built:
            # TensorFlow would trace the step twice, and cannot create the variables of several devices in it.
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, *args: Any) -> Any:
        """Train on one batch; the arguments of `keras.Model.train_step` depend on the backend."""
        return super().train_step(*args) if num_replicas() == 1 else run_on_replicas(self._replica_train_step, *args)

    def test_step(self, *args: Any) -> Any:
        return super().test_step(*args) if num_replicas() == 1 else run_on_replicas(super().test_step, *args)

    def _replica_train_step(self, data: Any) -> dict[str, Tensor]:
        (batch,) = data

        def loss() -> Tensor:
            return self.compute_loss(y_pred=self(batch, training=True))

        self._loss_tracker.update_state(
            scale_to_global(apply_global_gradients(loss, self.trainable_weights, self.optimizer))
        )
        return self.get_metrics_result()

    def predict(self, x: Any, **kwargs: Any) -> Any:
        """Predict as `keras.Model.predict`, from the images only if the batches contain the ground truth."""
        return super().predict(_images_only(x), **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(_images_only(x))


def padded_batches(prepared: list[np.ndarray], batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield batches (batch_size, …) float32 of arrays of one shape, and the number of arrays in each batch.

    Zeros fill the last batch, so that one trace serves all batches.
    """
    for start in range(0, len(prepared), batch_size):
        arrays = prepared[start : start + batch_size]
        batch = np.zeros((batch_size, *arrays[0].shape), np.float32)
        batch[: len(arrays)] = arrays
        yield batch, len(arrays)


def _images_only(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: x[name] for name in ("image", "window") if name in x}
    if isinstance(x, np.ndarray):
        return {"image": x}
    return (({"image": (batch[0] if isinstance(batch, tuple) else batch)["image"]},) for batch in x)
