"""Build an ONNX graph with methods that have the names and arguments of `keras.ops` functions.

Preprocessing and postprocessing (`mrcnn.export.pixels` and `mrcnn.export.pasting`) are written once: called with
`keras.ops` they build a TensorFlow graph, called with a `Graph` an ONNX graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18
IR_VERSION = 8
"""Version of the file format: that of opset 18, which older runtimes read too."""


class Value:
    """Represent a tensor of a `Graph` by name and dtype. Arithmetic and comparisons add nodes to the graph."""

    __array_ufunc__ = None  # NumPy arrays on the left use the operators of this class

    def __init__(self, graph: Graph, name: str, dtype: str) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype

    @property
    def element_type(self) -> int:
        """Return the ONNX code of the dtype."""
        return helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", other, self)

    def __ge__(self, other: Operand) -> Value:
        return self.graph.op("GreaterOrEqual", self, other, dtype="bool")

    def __gt__(self, other: Operand) -> Value:
        return self.graph.op("Greater", self, other, dtype="bool")

    def __le__(self, other: Operand) -> Value:
        return self.graph.op("LessOrEqual", self, other, dtype="bool")

    def __lt__(self, other: Operand) -> Value:
        return self.graph.op("Less", self, other, dtype="bool")

    def __getitem__(self, index: int) -> Value:
        """Take row `index`."""
        return self.graph.take(self, index, axis=0)


Operand = Value | np.ndarray | float


class Graph:
    """Collect the nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple, Value] = {}
        self._count = 0

    def op(self, kind: str, *inputs: Operand | None, dtype: str | None = None, **attributes: Any) -> Value:
        """Add a node with one output, and return that.

        Args:
            kind: name of the ONNX operator.
            inputs: values; numbers become constants of the first value's dtype, arrays constants of their own dtype;
                None is an omitted optional input.
            dtype: dtype of the output; default: that of the first value among the inputs.
            **attributes: attributes of the node.
        """
        return self._add_node(kind, inputs, [dtype], attributes)[0]

    def _add_node(
        self, kind: str, inputs: Sequence[Any], dtypes: Sequence[str | None], attributes: Mapping[str, Any]
    ) -> list[Value]:
        """Add a node with an output for each of `dtypes`."""
        first = next(each for each in inputs if isinstance(each, Value))
        names = ["" if each is None else self.value(each, first.dtype).name for each in inputs]
        while not names[-1]:  # onnxruntime does not join a convolution with an empty bias and its normalization
            names.pop()
        outputs = [Value(self, self._name(kind), dtype or first.dtype) for dtype in dtypes]
        self.nodes.append(helper.make_node(kind, names, [each.name for each in outputs], outputs[0].name, **attributes))
        return outputs

    def value(self, number: Operand, dtype: str) -> Value:
        """Convert an array, or a number with `dtype`, to a constant; return a `Value` unchanged."""
        if isinstance(number, Value):
            return number
        array = number if isinstance(number, np.ndarray) else np.array(number, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.constant(self._name("constant"), array)
        return self._known[key]

    def constant(self, name: str, array: np.ndarray) -> Value:
        """Add an array as a constant with the given name, once."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return Value(self, name, array.dtype.name)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

    @contextmanager
    def _body(self) -> Iterator[list[onnx.NodeProto]]:
        """Add nodes to a subgraph, which can use the values of this graph."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    # -- functions of keras.ops ----------------------------------------------------------------------------------------

    def shape(self, x: Value) -> Value:
        return self.op("Shape", x, dtype="int64")

    def cast(self, x: Value, dtype: str) -> Value:
        return self.op("Cast", x, dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def maximum(self, x: Operand, y: Operand) -> Value:
        return self.op("Max", x, y)

    def minimum(self, x: Operand, y: Operand) -> Value:
        return self.op("Min", x, y)

    def abs(self, x: Value) -> Value:
        return self.op("Abs", x)

    def floor(self, x: Value) -> Value:
        return self.op("Floor", x)

    def ceil(self, x: Value) -> Value:
        return self.op("Ceil", x)

    def sqrt(self, x: Value) -> Value:
        return self.op("Sqrt", x)

    def logical_and(self, x: Value, y: Value) -> Value:
        return self.op("And", x, y)

    def matmul(self, x: Value, y: Value) -> Value:
        return self.op("MatMul", x, y)

    def where(self, condition: Value, x: Operand, y: Operand) -> Value:
        dtype = next(np.dtype(each.dtype).name for each in (x, y) if isinstance(each, Value | np.ndarray))
        return self.op("Where", condition, self.value(x, dtype), self.value(y, dtype), dtype=dtype)

    def arange(self, stop: Value, dtype: str) -> Value:
        return self.op("Range", *(self.value(0, dtype), self.cast(stop, dtype), self.value(1, dtype)))

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return self.op("Transpose", x, perm=list(axes))

    def expand_dims(self, x: Value, axis: int) -> Value:
        return self.op("Unsqueeze", x, np.array([axis]))

    def reshape(self, x: Value, shape: Sequence) -> Value:
        return self.op("Reshape", x, self.sizes(shape))

    def zeros(self, shape: Sequence, dtype: str) -> Value:
        return self.full(self.sizes(shape), 0, dtype)

    def concatenate(self, values: Sequence[Value], axis: int) -> Value:
        return self.op("Concat", *values, axis=axis)

    def stack(self, values: Sequence[Value], axis: int) -> Value:
        return self.concatenate([self.expand_dims(each, axis) for each in values], axis)

    def take(self, x: Value, indices: Operand, axis: int) -> Value:
        return self.op("Gather", x, self.value(indices, "int64"), axis=axis)

    def sum(self, x: Value, axis: Sequence[int] | int, keepdims: bool = False) -> Value:
        return self.op("ReduceSum", x, np.atleast_1d(axis), keepdims=int(keepdims))

    def max(self, x: Value, axis: Sequence[int] | int, keepdims: bool = False) -> Value:
        return self.op("ReduceMax", x, np.atleast_1d(axis), keepdims=int(keepdims))

    def top_k(self, x: Value, k: Value | int) -> tuple[Value, Value]:
        count = self.sizes([self.cast(k, "int64") if isinstance(k, Value) else k])
        best, index = self._add_node("TopK", (x, count), (None, "int64"), {})
        return best, index

    def cond(self, condition: Value, true: Callable[[], Value], false: Callable[[], Value]) -> Value:
        branches = {}
        for name, function in (("then_branch", true), ("else_branch", false)):
            with self._body() as nodes:
                # A branch must create the value that it returns.
                result = self.op("Identity", function())
                branches[name] = helper.make_graph(nodes, name, [], [_information(result)])
        return self.op("If", condition, dtype=result.dtype, **branches)

    def map(self, function: Callable, values: Sequence[Value]) -> Value:
        """Apply `function` to the tuple of the i-th rows of `values` and stack the results; at least one row."""
        rows = [Value(self, self._name("row"), each.dtype) for each in values]
        with self._body() as nodes:
            result = function(tuple(rows))
            body = helper.make_graph(nodes, "body", [_information(row) for row in rows], [_information(result)])
        return self.op("Scan", *values, dtype=result.dtype, num_scan_inputs=len(values), body=body)

    # -- without a counterpart in keras.ops ----------------------------------------------------------------------------

    def sizes(self, shape: Sequence) -> Value:
        """Convert integers and int64 scalars of the graph to one int64 vector."""
        if not any(isinstance(each, Value) for each in shape):
            return self.value(np.array(shape, np.int64), "int64")
        parts = [
            self.expand_dims(each, 0) if isinstance(each, Value) else self.value(np.array([each]), "int64")
            for each in shape
        ]
        return self.concatenate(parts, 0)

    def full(self, shape: Value, number: float, dtype: str) -> Value:
        """Create a tensor filled with `number`; `shape` is an int64 vector."""
        return self.op("ConstantOfShape", shape, dtype=dtype, value=numpy_helper.from_array(np.array([number], dtype)))

    def slice(self, x: Value, start: int, stop: Value | int, axis: int) -> Value:
        """Slice from `start` to `stop` along an axis; `stop` may be an int64 scalar of the graph."""
        return self.op("Slice", x, self.sizes([start]), self.sizes([stop]), self.sizes([axis]))

    def rows(self, x: Value, index: Value) -> Value:
        """Gather rows `index` (B, K) of `x` (B, A, …): (B, K, …)."""
        return self.op("GatherND", x, self.expand_dims(index, -1), batch_dims=1)


def _information(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, value.element_type, None)
