"""Measure the limit of the machine: a chain of 3×3 convolutions of 256 channels, in float32 and bfloat16.

With TensorFlow; with JAX if KERAS_BACKEND selects it and it runs on an accelerator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed_turns import serve

CHANNELS, SIDE, CHAIN, CALLS = 256, 64, 4, 3
BATCH, ACCELERATOR_BATCH = 4, 64


class Limit:
    """Measure the GFLOP/s of each precision in `step`: the best of a few calls of the whole chain."""

    def __init__(self) -> None:
        self.device, self.calls, batch = _calls()
        self.gflop = 2 * 9 * CHANNELS**2 * SIDE**2 * batch * CHAIN / 1e9
        self.step()

    def step(self) -> dict:
        return {name: self.gflop / min(_seconds(call) for _ in range(CALLS)) for name, call in self.calls.items()}

    def hello(self) -> dict:
        return {"device": self.device}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _arrays(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((batch, SIDE, SIDE, CHANNELS), np.float32)
    # He initialization keeps the scale of the values along the chain.
    return pixels, rng.standard_normal((3, 3, CHANNELS, CHANNELS), np.float32) / np.float32(np.sqrt(9 * CHANNELS))


def _calls() -> tuple[str, dict[str, Callable[[], object]], int]:
    """Return the device's name, a synchronized call per precision, and the batch size."""
    if os.environ.get("KERAS_BACKEND") == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return jax.devices()[0].device_kind, _in_jax(jax, *_arrays(ACCELERATOR_BATCH)), ACCELERATOR_BATCH
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    name = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else "cpu"
    batch = ACCELERATOR_BATCH if gpus else BATCH
    return name, _in_tensorflow(tf, *_arrays(batch)), batch


def _in_tensorflow(tf: Any, pixels: np.ndarray, kernel: np.ndarray) -> dict:
    @tf.function
    def chain(x: Any, kernel: Any) -> Any:
        for _ in range(CHAIN):
            x = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.reduce_max(x)

    def of(dtype: Any) -> Callable[[], object]:
        x, k = tf.constant(pixels, dtype), tf.constant(kernel, dtype)
        return lambda: chain(x, k).numpy()

    return {"float32": of(tf.float32), "mixed_bfloat16": of(tf.bfloat16)}


def _in_jax(jax: Any, pixels: np.ndarray, kernel: np.ndarray) -> dict:
    @jax.jit
    def chain(x: Any, kernel: Any) -> Any:
        for _ in range(CHAIN):
            x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return x.max()

    def of(dtype: Any) -> Callable[[], object]:
        x, k = jax.numpy.asarray(pixels, dtype), jax.numpy.asarray(kernel, dtype)
        return lambda: np.asarray(chain(x, k))

    return {"float32": of("float32"), "mixed_bfloat16": of("bfloat16")}


if __name__ == "__main__":
    serve(Limit)
