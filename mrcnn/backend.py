"""What the model does differently by the backend and the device below Keras.

Besides, `data_parallel` and `replicas` know of several devices, `model.stream` of how `fit` is fed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import keras
import numpy as np

from mrcnn.processor import cpu_info

ops: Any = keras.ops
"""`keras.ops`. Its functions have no annotations, from which type checkers infer that they may return None."""


def xla_jit(function: Callable, **settings) -> Callable:
    """A pure function of tensors, compiled with XLA where the rest of the graph is not.

    On TensorFlow the model runs without XLA, because its own convolutions are faster on a CPU; but chains of small
    element-wise steps over large arrays (suppression, matching, pooling) are several times faster when fused. JAX
    compiles the whole step anyway.

    Args:
        function: at module level, so that all its calls with arrays of one shape share one compilation.
        settings: further arguments of it, hashable.
    """
    whole = partial(function, **settings)
    if keras.backend.backend() != "tensorflow":
        return whole
    import tensorflow as tf

    def call(*args):
        # Inside an eager call there is nothing to gain from compiling for each new shape.
        return whole(*args) if tf.executing_eagerly() else _compiled(function, **settings)(*args)

    return call


@cache
def _compiled(function: Callable, **settings) -> Callable:
    import tensorflow as tf

    return tf.function(partial(function, **settings), jit_compile=True, reduce_retracing=False, autograph=False)


def add_bias(values, bias):
    """(…, C) plus (C,), as the operation that TensorFlow joins with the convolution before and the ReLU behind it."""
    if keras.backend.backend() != "tensorflow":
        return values + bias
    import tensorflow as tf

    return tf.nn.bias_add(values, bias)


@cache
def computes_in_bfloat16() -> bool:
    """Whether the backend's device has arithmetic in bfloat16 that the backend uses, so that it is the faster one.

    On a CPU that is TensorFlow with AVX-512 BF16 or AMX, for without them, or by XLA, bfloat16 is taken apart in
    software; of GPUs NVIDIA's from compute capability 8.0 on.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if gpus := tf.config.list_physical_devices("GPU"):
            found = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability")
            return found is not None and found >= (8, 0)
        return bool({"avx512_bf16", "amx_bf16"} & cpu_info()[1])
    # JAX's arrays know their device. AMD's capabilities are names of architectures.
    found = re.fullmatch(r"(\d+)\.\d+", getattr(keras.ops.zeros(()).device, "compute_capability", ""))
    return found is not None and int(found[1]) >= 8


@cache
def cpu_vectors() -> Literal["avx2", "avx512"] | None:
    """The widest vectors of the x86 CPU that TensorFlow runs on; None on a GPU, another CPU or another backend."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return None
    found = set(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    # NumPy names feature levels (X86_V3, X86_V4) from 2.4 on.
    if found & {"AVX512F", "X86_V4"}:
        return "avx512"
    return "avx2" if found & {"AVX2", "X86_V3"} else None


def clear_session() -> None:
    """Gives back what models that nobody holds any more left behind: graphs, compiled steps, arrays.

    Keras's global state goes with it, the random seed included.
    """
    keras.utils.clear_session(free_memory=True)
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()
