"""The graph's pre-processing beside the host's, on Keras and on onnxruntime."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import onnx
import pytest
from keras import ops
from onnx import helper

from mrcnn.config import ModelConfig
from mrcnn.data.transforms.encoding import prepare_image
from mrcnn.errors import InputError
from mrcnn.export.exporting import EXPORTABLE, export_model
from mrcnn.export.onnx_graph import IR_VERSION, OPSET, Graph, Value
from mrcnn.export.pixels import prepare

ort = pytest.importorskip("onnxruntime")
SIZES = [(64, 64), (128, 128), (77, 60), (150, 201), (5, 300), (1, 1), (63, 640)]


def session(make):
    """A session of the graph that `make` builds of (graph, images)."""
    graph = Graph()
    images = Value(graph, "images", "float32")
    result = make(graph, images)
    inputs = [helper.make_tensor_value_info("images", images.element_type, ["b", "h", "w", "c"])]
    outputs = [helper.make_tensor_value_info(result.name, result.element_type, ["b", "c", "s", "s"])]
    made = helper.make_graph(graph.nodes, "prepare", inputs, outputs, list(graph.constants.values()))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(params=["keras", "onnx"])
def prepared(request):
    """Makes the network's input (B, S, S, C) of a batch of images of one size."""

    def run(images, config):
        images = np.stack(images).astype(np.float32)
        if request.param == "keras":
            planes = np.asarray(prepare(ops.convert_to_tensor(images), config, ops)[0])
        else:
            made = session(lambda graph, value: prepare(value, config, graph)[0])
            planes = made.run(None, {"images": images})[0]
        return planes.transpose(0, 2, 3, 1)

    return run


@pytest.mark.parametrize(("normalisation", "channels"), [("image", 3), ("image", 1), ("imagenet", 3)])
@pytest.mark.parametrize("given", [1, 3])
def test_eight_bit_images_become_what_the_host_makes_of_them(prepared, normalisation, channels, given):
    config = ModelConfig(class_names=("a",), image_size=64, normalisation=normalisation, channels=channels)
    rng = np.random.default_rng(0)
    for height, width in SIZES:
        image = rng.integers(0, 256, (height, width, given), np.uint8)
        np.testing.assert_allclose(prepared([image], config)[0], prepare_image(image, config)[0], atol=1e-4)


@pytest.mark.parametrize(("normalisation", "unit"), [("image", 1.0), ("imagenet", 58.0)])
def test_other_numbers_are_not_rounded(prepared, normalisation, unit):
    config = ModelConfig(class_names=("a",), image_size=64, normalisation=normalisation)
    rng = np.random.default_rng(1)
    for image in (
        rng.integers(0, 40000, (150, 201, 1), np.uint16),
        rng.normal(-3, 2, (30, 64, 3)).astype(np.float32),
        np.full((40, 50, 1), 31000, np.uint16),
    ):
        np.testing.assert_allclose(prepared([image], config)[0], prepare_image(image, config)[0], atol=1e-4 * unit)


def test_each_image_of_a_batch_is_judged_by_itself(prepared):
    config = ModelConfig(class_names=("a",), image_size=64, normalisation="imagenet")
    rng = np.random.default_rng(2)
    images = [rng.integers(0, top, (90, 70, 3)).astype(np.uint8 if top == 256 else np.uint16) for top in (256, 9000)]
    for found, image in zip(prepared(images, config), images, strict=True):
        np.testing.assert_allclose(found, prepare_image(image, config)[0], atol=6e-3)


def test_a_network_of_four_channels_takes_four_or_gray(prepared):
    config = ModelConfig(class_names=("a",), image_size=64, channels=4)
    for given in (1, 4):
        image = np.random.default_rng(3).normal(size=(50, 81, given)).astype(np.float32)
        np.testing.assert_allclose(prepared([image], config)[0], prepare_image(image, config)[0], atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e19, 1e30])
def test_large_and_small_numbers_become_what_the_host_makes_of_them(prepared, scale):
    config = ModelConfig(class_names=("a",), image_size=64, channels=1)
    image = (np.random.default_rng(2).normal(0, 1, (60, 77, 1)) * scale).astype(np.float32)
    expected = prepare_image(image, config)[0]
    assert expected.std() > 0.5
    np.testing.assert_allclose(prepared([image], config)[0], expected, atol=1e-3)


@pytest.mark.parametrize(("channels", "given"), [(1, 2), (1, 4), (3, 2), (3, 4), (4, 3)])
def test_channels_that_the_host_refuses_are_no_answer_here_either(prepared, channels, given):
    config = ModelConfig(class_names=("a",), image_size=64, channels=channels)
    image = np.random.default_rng(5).normal(size=(50, 81, given)).astype(np.float32)
    with pytest.raises(InputError):
        prepare_image(image, config)
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        prepared([image], config)


PREPROCESSING = {
    "image_size": (64, (64, 96), (96, 64)),
    "channels": (1, 3, 4),
    "context_slices": (0, 1),
    "normalisation": ("image", "imagenet", "none"),
    "backbone": ("small", "resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite1"),
    "equalise": ("none", "histogram", "clahe"),
    "conventions": ("paper", "matterport", "torchvision"),
}
"""Every option that acts before the network, with values; the others are read by the network alone."""
NETWORK = {
    "class_names", "norm", "fpn_channels", "head_width", "mask_channels", "mask_convolutions",
    "anchor_sizes", "anchor_ratios", "max_instances", "rpn_positive_iou", "rpn_negative_iou", "rpn_samples",
    "proposals_per_level", "proposals", "proposal_nms_iou", "roi_positive_iou", "roi_samples", "roi_canonical_size",
    "pool_size", "mask_pool_size", "class_agnostic", "class_weights", "focal_gamma", "max_detections",
    "score_threshold", "nms_iou",
}  # fmt: skip


def test_every_option_is_known_to_act_before_the_network_or_not():
    """A new option belongs in one of the two, and where it acts on pixels `prepare` or the refusal must know it."""
    # The caller of an exported model cuts the tiles; `test_export` reads the note of their size.
    assert PREPROCESSING.keys() | NETWORK | {"tile"} == set(ModelConfig.model_fields)
    for name, values in PREPROCESSING.items():
        if name == "image_size":
            continue
        assert set(get_args(ModelConfig.model_fields[name].annotation)) <= set(values)


@pytest.mark.parametrize(
    ("option", "value"), [(name, value) for name, values in PREPROCESSING.items() for value in values]
)
@pytest.mark.parametrize("kind", ["8 bit", "16 bit", "float"])
def test_each_option_is_as_on_the_host_or_refused(prepared, tmp_path, option, value, kind):
    # Conventions and backbones have their own normalization with `imagenet`.
    imagenet = option in ("conventions", "backbone")
    others = {"norm": "frozen_batch", "normalisation": "imagenet"} if imagenet else {}
    config = ModelConfig(class_names=("a",), **{"image_size": 64, **others, option: value})
    if EXPORTABLE.get(option, value) != value:
        with pytest.raises(InputError, match=f"^{option}={value}: cannot be exported.*expected a model of {option}="):
            export_model(SimpleNamespace(config=config), "onnx", tmp_path / "new")
        assert not list(tmp_path.iterdir())
        return
    rng = np.random.default_rng(4)
    # With normalisation=none the reader has brought the numbers to about 1 before.
    unit = 1.0 if value == "none" else 255.0 if kind == "float" else 9000.0
    image = {
        "8 bit": lambda: rng.integers(0, 256, (90, 70, config.channels), np.uint8),
        "16 bit": lambda: rng.integers(0, 4096, (90, 70, config.channels), np.uint16),
        "float": lambda: rng.normal(0, unit, (90, 70, config.channels)).astype(np.float32),
    }[kind]()
    np.testing.assert_allclose(prepared([image], config)[0], prepare_image(image, config)[0], rtol=1e-6, atol=1e-4)
