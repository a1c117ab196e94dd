"""Write a trained model with preprocessing and postprocessing as an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import helper

from mrcnn.export.onnx_detection import detect
from mrcnn.export.onnx_graph import IR_VERSION, OPSET, Graph, Value
from mrcnn.export.pasting import paste, to_image
from mrcnn.export.pixels import prepare
from mrcnn.models import MaskRCNN

SHAPES = {
    "images": ("batch", "height", "width", "channels"),
    "boxes": ("batch", "instances", 4),
    "scores": ("batch", "instances"),
    "class_ids": ("batch", "instances"),
    "masks": ("batch", "instances", "height", "width"),
    "count": ("batch",),
}


def write_onnx(model: MaskRCNN, path: Path, notes: Mapping[str, str]) -> None:
    """Write an ONNX file with the inputs and outputs defined in `mrcnn.export`.

    `notes` are its `metadata_props`; `notice` is also its `doc_string`.

    Raises:
        TypeError: a layer of the model is not supported.
    """
    graph = Graph()
    images = Value(graph, "images", "float32")
    height, width = (graph.shape(images)[axis] for axis in (1, 2))
    planes, scale = prepare(images, model.config, graph)
    found = detect(model, planes, graph)
    found["boxes"] = to_image(found["boxes"], scale, height, width, graph)
    found["masks"] = paste(found["masks"], found["boxes"], height, width, model.config.mask_size, graph)
    for name, value in found.items():
        graph.nodes.append(helper.make_node("Identity", [value.name], [name]))

    def described(name: str, value: Value) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, value.element_type, SHAPES[name])

    made = helper.make_graph(
        graph.nodes,
        "mask_rcnn",
        [described("images", images)],
        [described(name, value) for name, value in found.items()],
        list(graph.constants.values()),
    )
    whole = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="medmrcnn",
        doc_string=notes["notice"],
    )
    helper.set_model_props(whole, dict(notes))
    onnx.checker.check_model(whole, full_check=True)
    onnx.save_model(whole, path)
