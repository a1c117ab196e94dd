"""The graph's pasting beside the host's."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from onnx import helper

from mrcnn.export.onnx_graph import IR_VERSION, OPSET, Graph, Value
from mrcnn.export.pasting import paste
from mrcnn.geometry.masks import paste_crop
from mrcnn.instance_masks import InstanceMasks

ort = pytest.importorskip("onnxruntime")
CELLS = 7


@pytest.fixture(scope="module")
def onnx_paste():
    graph = Graph()
    masks, boxes, like = (Value(graph, name, "float32") for name in ("masks", "boxes", "like"))
    height, width = (graph.shape(like)[axis] for axis in (0, 1))
    result = paste(masks, boxes, height, width, CELLS, graph)
    shapes = {"masks": ["b", "n", CELLS, CELLS], "boxes": ["b", "n", 4], "like": ["h", "w"]}
    inputs = [
        helper.make_tensor_value_info(value.name, value.element_type, shapes[value.name])
        for value in (masks, boxes, like)
    ]
    outputs = [helper.make_tensor_value_info(result.name, result.element_type, ["b", "n", "h", "w"])]
    made = helper.make_graph(graph.nodes, "paste", inputs, outputs, list(graph.constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(masks, boxes, height, width):
        like = np.zeros((height, width), np.float32)
        return session.run(None, {"masks": masks, "boxes": boxes, "like": like})[0]

    return run


def keras_paste(masks, boxes, height, width):
    return np.asarray(paste(ops.convert_to_tensor(masks), ops.convert_to_tensor(boxes), height, width, CELLS, ops))


@st.composite
def scenes(draw):
    """Boxes of any place and width in an image of any size, down to nothing, and probabilities in steps of 1/64."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 4))
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, [width, height], (count, 2))
    end = np.minimum(start + rng.uniform(0, [width, height], (count, 2)) * rng.choice([0, 0.02, 1], (count, 1)), 40)
    masks = rng.integers(0, 65, (count, CELLS, CELLS)) / 64
    return masks.astype(np.float32), np.concatenate([start, end], axis=1).astype(np.float32), height, width


@settings(max_examples=60)
@given(scene=scenes())
def test_the_same_pixels(onnx_paste, scene):
    masks, boxes, height, width = scene
    boxes = np.minimum(boxes, np.float32([width, height, width, height]))
    crops = [paste_crop(mask, box, height, width) for mask, box in zip(masks, boxes, strict=True)]
    expected = InstanceMasks(height, width, crops).to_array()
    for run in (keras_paste, onnx_paste):
        found = run(masks[None], boxes[None], height, width)[0]
        assert found.shape == expected.shape and set(np.unique(found)) <= {0, 1}
        # Where the interpolated probability is the threshold itself, rounding decides.
        assert (found != expected).mean() <= 0.01
    np.testing.assert_array_equal(onnx_paste(masks[None], boxes[None], height, width)[0].shape, expected.shape)


@pytest.mark.parametrize("batch", [1, 2])
def test_no_instance_gives_no_masks(onnx_paste, batch):
    masks, boxes = np.zeros((batch, 0, CELLS, CELLS), np.float32), np.zeros((batch, 0, 4), np.float32)
    for run in (keras_paste, onnx_paste):
        assert run(masks, boxes, 5, 8).shape == (batch, 0, 5, 8)
