"""Parity with torchvision's Mask R-CNN.

The expected arrays are what `maskrcnn_resnet50_fpn` of torchvision 0.28 (num_classes=5, min_size = max_size = 256,
box_score_thresh=0.7) detects on the image of `matterport_file.test_image` with the tensors of `torchvision_file`.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN
from mrcnn.models.pretrained.initial_weights import load_weights, settings_for
from mrcnn.models.pretrained.matterport import COCO_CLASSES, COCO_IDS
from mrcnn.models.pretrained.torchvision import convert_torchvision
from mrcnn.models.pretrained.weight_files import read_npz, read_safetensors

pytestmark = pytest.mark.usefixtures("eager")


def write_safetensors(path, tensors):
    """Write a safetensors file: length of the header, the header, the data."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        kind = {"float32": "F32", "int64": "I64", "float16": "F16", "uint16": "BF16"}[str(values.dtype)]
        raw = values.tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.fixture(scope="module")
def weight_file(seeded_tensors, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "maskrcnn.safetensors"
    write_safetensors(path, seeded_tensors)
    return path


def test_detections_equal_torchvision(weight_file, matterport_file, agree):
    settings = {**settings_for(weight_file), "image_size": 256, "score_threshold": 0.7}
    assert settings["conventions"] == "torchvision" and settings["backbone"] == "resnet50"
    model = MaskRCNN(ModelConfig(class_names=("a", "b", "c", "d"), **settings))
    report = load_weights(model, weight_file)
    assert not report.skipped and not report.unused, report.text()
    expected = np.load(Path(__file__).parent / "data" / "torchvision_square.npz")
    agree(model.detect([matterport_file.test_image(256, 256)], batch_size=1)[0], expected, expected["boxes"], 5e-3)


def test_80_classes_are_selected_from_91_outputs(seeded_tensors):
    predictor = "roi_heads.box_predictor"
    tensors = {
        **seeded_tensors,
        f"{predictor}.cls_score.weight": np.tile(np.arange(91, dtype=np.float32)[:, None], (1, 1024)),
        f"{predictor}.cls_score.bias": np.arange(91, dtype=np.float32),
        f"{predictor}.bbox_pred.weight": np.tile(np.arange(364, dtype=np.float32)[:, None], (1, 1024)),
        f"{predictor}.bbox_pred.bias": np.arange(364, dtype=np.float32),
    }
    offers = convert_torchvision(tensors, COCO_CLASSES)
    bias = offers["head_class"].values[1]
    assert len(COCO_CLASSES) == len(COCO_IDS) == 80
    # Category ids as COCO's annotations have them.
    ids = {"person": 1, "stop sign": 13, "umbrella": 28, "dining table": 67, "toilet": 70, "toothbrush": 90}
    assert {name: bias[1 + COCO_CLASSES.index(name)] for name in ids} == ids and bias[0] == 0
    assert offers["head_box"].values[1].reshape(80, 4)[0].tolist() == [4, 5, 6, 7]
    assert offers["head_class"].values[0].shape == (1024, 81)


def test_names_of_older_files(seeded_tensors):
    older = {}
    for name, values in seeded_tensors.items():
        name = name.replace("rpn.head.conv.0.0", "rpn.head.conv")
        for level in range(4):
            name = name.replace(f"_blocks.{level}.0.", f"_blocks.{level}.")
            name = name.replace(f"mask_head.{level}.0", f"mask_head.mask_fcn{level + 1}")
        older[name] = values
    assert older.keys() != seeded_tensors.keys()
    now, then = (convert_torchvision(tensors, ("a",) * 4) for tensors in (seeded_tensors, older))
    assert now.keys() == then.keys()


def test_types_of_safetensors(tmp_path):
    values = np.array([[1.5, -2], [0.25, 3]], np.float32)
    tensors = {"f32": values, "f16": values.astype(np.float16), "i64": np.arange(3),
               "bf16": (values.view(np.uint32) >> 16).astype(np.uint16)}  # fmt: skip
    write_safetensors(tmp_path / "x.safetensors", tensors)
    read = read_safetensors(tmp_path / "x.safetensors")
    for name in ("f32", "f16", "bf16"):
        np.testing.assert_array_equal(read[name], values)
    np.testing.assert_array_equal(read["i64"], [0, 1, 2])


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([{}], object))
    with pytest.raises(InputError, match=r"x\.npz: not a readable"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, (10).to_bytes(8, "little") + b'{"a": 1}  '])
def test_damaged_safetensors(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors: not a readable safetensors file"):
        read_safetensors(tmp_path / "x.safetensors")
