"""Keras models whose losses are their own, so that `fit` and `train_on_batch` need nothing but batches."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np


class OwnLosses(keras.Model):
    """A model that returns its losses by name where the batch holds the truth, else its outputs.

    Attributes:
        loss_means: running means of the losses, which are the metrics; their names are those of the losses.
    """

    loss_means: list[keras.metrics.Mean]

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
            mean.update_state(y_pred[mean.name])
        return sum(y_pred[mean.name] for mean in self.loss_means) + sum(self.losses)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return self.get_metrics_result()

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
