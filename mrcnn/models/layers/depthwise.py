"""Depthwise convolution with gradients that are fast on x86 CPUs with TensorFlow.

TensorFlow's own gradients (oneDNN) take up to 90 ms a layer in bfloat16 where the forward pass takes 1 to 2 ms: those
of a 5 × 5 kernel, and those of the inputs with a stride. JAX and GPUs use the gradients of the backend.
"""

from __future__ import annotations

from collections.abc import Callable

from mrcnn.backend import Tensor, cpu_vectors, ops


def depthwise_convolve(inputs: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Convolve each channel of (B, H, W, C) with its own kernel of (k, k, C, 1), with padding "same".

    Returns:
        (B, ⌈H / stride⌉, ⌈W / stride⌉, C).
    """
    if cpu_vectors() is None or None in inputs.shape[1:3]:
        return ops.depthwise_conv(inputs, kernel, strides=stride, padding="same")
    import tensorflow as tf

    @tf.custom_gradient
    def convolve(inputs: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            return _input_gradient(inputs, kernel, upstream, stride), _kernel_gradient(inputs, kernel, upstream, stride)

        return tf.nn.depthwise_conv2d(inputs, kernel, (1, stride, stride, 1), "SAME"), gradient

    return convolve(inputs, kernel)


def _input_gradient(inputs: Tensor, kernel: Tensor, upstream: Tensor, stride: int) -> Tensor:
    """In bfloat16, convolve the upstream gradient, with zeros between its cells, with the rotated kernel."""
    import tensorflow as tf

    if inputs.dtype != tf.bfloat16:
        return tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=tf.shape(inputs),
            filter=kernel,
            out_backprop=upstream,
            strides=(1, stride, stride, 1),
            padding="SAME",
        )
    size = kernel.shape[0]
    (rows, above), (columns, left) = (_padding(side, size, stride) for side in inputs.shape[1:3])
    if stride > 1:
        cells = tf.reshape(upstream, (-1, rows, 1, columns, 1, upstream.shape[-1]))
        cells = tf.pad(cells, ((0, 0), (0, 0), (0, stride - 1), (0, 0), (0, stride - 1), (0, 0)))
        upstream = tf.reshape(cells, (-1, rows * stride, columns * stride, upstream.shape[-1]))
    around = [
        (size - 1 - before, side + before - cells * stride)
        for side, before, cells in zip(inputs.shape[1:3], (above, left), (rows, columns), strict=True)
    ]
    padded = tf.pad(upstream, ((0, 0), *around, (0, 0)))
    return tf.nn.depthwise_conv2d(padded, tf.reverse(kernel, (0, 1)), (1, 1, 1, 1), "VALID")


def _kernel_gradient(inputs: Tensor, kernel: Tensor, upstream: Tensor, stride: int) -> Tensor:
    """Assemble the gradient of a 5 × 5 kernel from those of four 3 × 3 kernels in its corners."""
    import tensorflow as tf

    def native(inputs: Tensor, size: int, padding: str) -> Tensor:
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=inputs,
            filter_sizes=(size, size, *kernel.shape[2:]),
            out_backprop=upstream,
            strides=(1, stride, stride, 1),
            padding=padding,
        )

    size = kernel.shape[0]
    if size != 5:
        return native(inputs, size, "SAME")
    (rows, above), (columns, left) = (_padding(side, size, stride) for side in inputs.shape[1:3])
    height, width = (rows - 1) * stride + 3, (columns - 1) * stride + 3
    below, right = height + 2 - inputs.shape[1] - above, width + 2 - inputs.shape[2] - left
    padded = tf.pad(inputs, ((0, 0), (above, below), (left, right), (0, 0)))

    def corner(y: int, x: int) -> Tensor:
        return native(padded[:, y : y + height, x : x + width], 3, "VALID")

    # The third row and column of the kernel are in two corners each.
    upper, lower = (tf.concat((corner(y, 0), corner(y, 2)[:, 1:]), axis=1) for y in (0, 2))
    return tf.concat((upper, lower[1:]), axis=0)


def _padding(side: int, size: int, stride: int) -> tuple[int, int]:
    """Return the output cells along a side, and the zeros before its first input cell."""
    cells = -(-side // stride)
    return cells, max((cells - 1) * stride + size - side, 0) // 2
