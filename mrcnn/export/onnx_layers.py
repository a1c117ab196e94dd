"""Convert Keras layers to ONNX nodes, channels first."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers

from mrcnn.export.onnx_graph import Graph, Value
from mrcnn.models.layers import folded
from mrcnn.models.layers.convolutions import Convolution3x3
from mrcnn.models.layers.normalization import GroupNorm


def convert(model: keras.Model, inputs: list[Value], graph: Graph) -> list[Value]:
    """Convert a functional model that calls each layer once; return its outputs for `inputs` (B, C, H, W).

    A second call shares the weights of the first.

    Raises:
        TypeError: a layer is not supported.
    """
    values = dict(zip(map(id, model.inputs), inputs, strict=True))
    flattened: dict[str, tuple[int, ...]] = {}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        function = _FUNCTIONS.get(type(layer))
        if function is None:
            raise TypeError(f"layer {layer.name} is a {type(layer).__name__}, which has no counterpart in ONNX here")
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        arguments = [values[id(each)] for each in tensors]
        if isinstance(layer, layers.Flatten):
            result = graph.op("Flatten", *arguments)
            flattened[result.name] = tensors[0].shape[1:]
        elif isinstance(layer, layers.Dense):
            result = _dense(layer, graph, *arguments, order=flattened.get(arguments[0].name))
        else:
            result = function(layer, graph, *arguments)
        values[id(layer.output)] = result
    return [values[id(each)] for each in model.outputs]


def _weight(layer: keras.Layer, name: str, graph: Graph, change: Callable = np.asarray) -> Value:
    array = np.asarray(keras.ops.convert_to_numpy(getattr(layer, name)), np.float32)
    return graph.constant(f"{layer.name}/{name}", change(array))


def _activation(layer: keras.Layer, graph: Graph, x: Value) -> Value:
    kind = keras.activations.serialize(layer.activation)
    if kind == "linear":
        return x
    if kind != "relu":
        raise TypeError(f"layer {layer.name} has the activation {kind}; expected relu or linear")
    return graph.op("Relu", x)


def _convolution(layer: layers.Conv2D, graph: Graph, x: Value) -> Value:
    kernel = _weight(layer, "kernel", graph, lambda array: array.transpose(3, 2, 0, 1))
    bias = _weight(layer, "bias", graph) if layer.use_bias else None
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    x = graph.op("Conv", x, kernel, bias, strides=layer.strides, dilations=layer.dilation_rate, auto_pad=padding)
    return _activation(layer, graph, x)


def _depthwise_convolution(layer: folded.DepthwiseConv2D, graph: Graph, x: Value) -> Value:
    kernel = _weight(layer, "kernel", graph, lambda array: array.transpose(2, 3, 0, 1))
    return graph.op("Conv", x, kernel, strides=layer.strides, group=layer.kernel.shape[2], auto_pad="SAME_UPPER")


def _relu(layer: layers.ReLU, graph: Graph, x: Value) -> Value:
    if layer.negative_slope or layer.threshold:
        raise TypeError(f"layer {layer.name} has a slope or a threshold; expected a ReLU with neither")
    if layer.max_value is None:
        return graph.op("Relu", x)
    return graph.op("Clip", x, 0.0, float(layer.max_value))


def _transposed_convolution(layer: layers.Conv2DTranspose, graph: Graph, x: Value) -> Value:
    # If stride and kernel size are equal, outputs do not overlap and need no padding.
    if tuple(layer.strides) != tuple(layer.kernel_size):
        raise TypeError(f"layer {layer.name} has strides {layer.strides}; expected {layer.kernel_size}, as the kernel")
    kernel = _weight(layer, "kernel", graph, lambda array: array.transpose(3, 2, 0, 1))
    x = graph.op("ConvTranspose", x, kernel, _weight(layer, "bias", graph), strides=layer.strides)
    return _activation(layer, graph, x)


def _dense(layer: layers.Dense, graph: Graph, x: Value, order: tuple[int, ...] | None) -> Value:
    """Convert a dense layer; `order` is (height, width, channels) if the input is a flattened feature map."""

    def channels_first(kernel: np.ndarray) -> np.ndarray:
        if order is None:
            return kernel
        return kernel.reshape(*order, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)

    x = graph.op("Gemm", x, _weight(layer, "kernel", graph, channels_first), _weight(layer, "bias", graph))
    return _activation(layer, graph, x)


def _batch_norm(layer: layers.BatchNormalization, graph: Graph, x: Value) -> Value:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = [_weight(layer, name, graph) for name in names]
    return graph.op("BatchNormalization", x, *weights, epsilon=layer.epsilon)


def _group_norm(layer: GroupNorm, graph: Graph, x: Value) -> Value:
    # Group normalization is instance normalization with a channel per group.
    groups = layer.gamma.shape[0] // layer.group_size
    one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    grouped = graph.reshape(x, (0, groups, -1))
    normal = graph.op("InstanceNormalization", grouped, one, zero, epsilon=layer.epsilon)
    normal = graph.op("Reshape", normal, graph.shape(x))
    scale, shift = (_weight(layer, name, graph, lambda array: array[:, None, None]) for name in ("gamma", "beta"))
    return normal * scale + shift


def _max_pooling(layer: layers.MaxPooling2D, graph: Graph, x: Value) -> Value:
    padding = {"same": "SAME_UPPER", "valid": "VALID"}[layer.padding]
    return graph.op("MaxPool", x, kernel_shape=layer.pool_size, strides=layer.strides, auto_pad=padding)


def _zero_padding(layer: layers.ZeroPadding2D, graph: Graph, x: Value) -> Value:
    (top, bottom), (left, right) = layer.padding
    return graph.op("Pad", x, np.array([0, 0, top, left, 0, 0, bottom, right]))


def _up_sampling(layer: layers.UpSampling2D, graph: Graph, x: Value) -> Value:
    if layer.interpolation != "nearest":
        raise TypeError(f"layer {layer.name} interpolates {layer.interpolation}; expected nearest")
    scales = np.array([1, 1, *layer.size], np.float32)
    settings = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.op("Resize", x, None, scales, **settings)


# By exact type: a subclass may behave differently.
_FUNCTIONS: dict[type, Callable] = {
    layers.Conv2D: _convolution,
    Convolution3x3: _convolution,
    folded.Conv2D: _convolution,
    folded.DepthwiseConv2D: _depthwise_convolution,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.Dense: _dense,
    layers.Flatten: _dense,
    layers.BatchNormalization: _batch_norm,
    folded.BatchNormalization: _batch_norm,
    GroupNorm: _group_norm,
    layers.ReLU: _relu,
    layers.Activation: lambda layer, graph, x: _activation(layer, graph, x),
    layers.Add: lambda layer, graph, *values: graph.op("Add", *values),
    layers.MaxPooling2D: _max_pooling,
    layers.ZeroPadding2D: _zero_padding,
    layers.UpSampling2D: _up_sampling,
}
