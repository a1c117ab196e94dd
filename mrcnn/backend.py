"""Code that depends on the Keras backend and the device.

Further such code: `mrcnn.models.layers.depthwise`, `mrcnn.models.training.data_parallel` and
`mrcnn.models.training.batches`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import cache, partial
from typing import Any, Literal, TypeAlias

import keras
import numpy as np

from mrcnn.processor import cpu_info

Tensor: TypeAlias = Any
"""A tensor of the Keras backend, or a NumPy array where Keras accepts one; the backends share no static type."""

ops: Any = keras.ops
"""`keras.ops`. Its functions have no annotations, from which type checkers infer that they may return None."""


def xla_jit(function: Callable, **settings: Hashable) -> Callable:
    """Compile a pure function of tensors with XLA on TensorFlow.

    The rest of the model runs without XLA on TensorFlow, whose convolutions are faster on a CPU. Chains of small
    element-wise operations on large arrays (suppression, matching, pooling) are several times faster when XLA fuses
    them. JAX compiles the whole step.

    Args:
        function: a function at module level, so that all calls with arrays of one shape share one compilation.
        settings: hashable keyword arguments of `function`.
    """
    bound = partial(function, **settings)
    if keras.backend.backend() != "tensorflow":
        return bound
    import tensorflow as tf

    def call(*args: Tensor) -> Any:
        # Eager calls are too few to pay for a compilation per shape.
        return bound(*args) if tf.executing_eagerly() else _compiled(function, **settings)(*args)

    return call


@cache
def _compiled(function: Callable, **settings: Hashable) -> Callable:
    import tensorflow as tf

    return tf.function(partial(function, **settings), jit_compile=True, reduce_retracing=False, autograph=False)


def add_bias(values: Tensor, bias: Tensor) -> Tensor:
    """Add (C,) to (…, C) by the operation that TensorFlow fuses with the convolution before and the ReLU after it."""
    if keras.backend.backend() != "tensorflow":
        return values + bias
    import tensorflow as tf

    return tf.nn.bias_add(values, bias)


@cache
def computes_in_bfloat16() -> bool:
    """Return whether the backend has fast bfloat16 arithmetic on its device.

    True for TensorFlow on CPUs with AVX-512 BF16 or AMX, and for NVIDIA GPUs of compute capability 8.0 or higher.
    Otherwise, and for XLA on a CPU, software emulates bfloat16.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if gpus := tf.config.list_physical_devices("GPU"):
            found = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
            return found is not None and found >= (8, 0)
        return bool({"avx512_bf16", "amx_bf16"} & cpu_info()[1])
    # The compute capabilities of AMD GPUs are names of architectures.
    device = getattr(keras.ops.zeros(()), "device", None)
    found = re.fullmatch(r"(\d+)\.\d+", getattr(device, "compute_capability", ""))
    return found is not None and int(found[1]) >= 8


def device_memory() -> tuple[Literal["cpu", "gpu"], int | None]:
    """Return the kind of the device on which models run, and its memory in bytes; None: that of the host.

    TensorFlow does not report the memory of a GPU, for which 8 GiB are returned.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        on_gpu, limit = bool(tf.config.list_physical_devices("GPU")), 8 << 30
    else:
        import jax

        device = jax.devices()[0]
        on_gpu = device.platform != "cpu"
        limit = (device.memory_stats() or {}).get("bytes_limit", 8 << 30) if on_gpu else 0
    return ("gpu", limit) if on_gpu else ("cpu", None)


@cache
def cpu_vectors() -> Literal["avx2", "avx512"] | None:
    """Return the widest vector extension of the x86 CPU of TensorFlow; None for a GPU, another CPU or backend."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return None
    found = set(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    # NumPy 2.4 and later list feature levels (X86_V3, X86_V4).
    if found & {"AVX512F", "X86_V4"}:
        return "avx512"
    return "avx2" if found & {"AVX2", "X86_V3"} else None


def clear_session() -> None:
    """Free the memory of deleted models (graphs, compiled steps, arrays) and reset Keras's global state and seed."""
    keras.utils.clear_session(free_memory=True)
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
