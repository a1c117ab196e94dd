"""Exported models beside `MaskRCNN.detect`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.export import FORMS, export_model, exporting
from mrcnn.models.pretrained.initial_weights import load_imagenet

pytestmark = pytest.mark.usefixtures("eager")
SIZES = [(128, 128, 3), (97, 131, 1), (201, 300, 3), (60, 47, 3)]


@pytest.fixture(scope="module", params=["saved_model", "onnx"])
def form(request):
    return request.param


@dataclass
class Exported:
    """What `export_model` wrote, and what it runs as."""

    path: Path
    notes: dict
    run: Callable

    def __call__(self, *images):
        return self.run(np.stack(images).astype(np.float32))


@pytest.fixture(scope="module")
def exported(form, small_model, load_exported, tmp_path_factory):
    """The small model in an exported form."""
    path = tmp_path_factory.mktemp("exported") / f"small{FORMS[form]}"
    notes = export_model(small_model, form, path)
    return Exported(path, notes, load_exported(form, path))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_detections_are_those_of_detect(exported, small_model, photograph, assert_same, size):
    image = photograph(*size)
    (expected,) = small_model.detect([image], batch_size=1)
    assert len(expected) > 5 and len(set(expected.class_ids)) == 2
    assert (expected.masks.sum(axis=(1, 2)) > 100).sum() > 3  # the masks are something to compare
    assert_same(exported(image), 0, expected)


@pytest.mark.parametrize("form", ["onnx", pytest.param("saved_model", marks=pytest.mark.slow)], indirect=True)
def test_a_rectangular_input(form, make_model, photograph, assert_same, load_exported, tmp_path):
    model, path = make_model(image_size=(128, 192)), tmp_path / f"model{FORMS[form]}"
    export_model(model, form, path)
    image = photograph(150, 260)
    (expected,) = model.detect([image], batch_size=1)
    assert len(expected) > 3 and (expected.boxes[:, 2] > 200).any()
    assert_same(load_exported(form, path)(image[None].astype(np.float32)), 0, expected)


def test_sixteen_bits(exported, small_model, photograph, assert_same):
    image = photograph(150, 128, 1, np.uint16, 40000)
    (expected,) = small_model.detect([image], batch_size=1)
    assert_same(exported(image), 0, expected)


def test_a_batch_of_three(exported, small_model, photograph, assert_same):
    images = [photograph(90, 140, seed=seed) for seed in (1, 2)] + [np.full((90, 140, 3), 7, np.uint8)]
    expected = small_model.detect(images, batch_size=1)
    assert len({len(each) for each in expected}) > 1  # some slots stay empty
    found = exported(*images)
    assert found["boxes"].shape == (3, max(map(len, expected)), 4)
    for slot, each in enumerate(expected):
        assert_same(found, slot, each)


def test_nothing_found(exported, small_model):
    image = np.full((97, 131, 3), 7, np.uint8)
    assert len(small_model.detect([image], batch_size=1)[0]) == 0
    found = exported(image, image)
    assert found["count"].tolist() == [0, 0]
    assert found["boxes"].shape == (2, 0, 4) and found["masks"].shape == (2, 0, 97, 131)


def test_the_working_point(small_model, photograph, assert_same, load_exported, tmp_path):
    image = photograph(97, 131)
    (everything,) = small_model.detect([image], batch_size=1)
    confidence = float(everything.scores[2:4].mean())
    notes = export_model(small_model, "onnx", tmp_path / "few.onnx", confidence=confidence)
    assert json.loads(notes["confidence"]) == confidence
    found = load_exported("onnx", tmp_path / "few.onnx")(image[None].astype(np.float32))
    assert found["masks"].shape == (1, 3, 97, 131)
    assert_same(found, 0, everything.above(confidence))


@pytest.mark.parametrize(
    "changes",
    [
        {"class_agnostic": True, "channels": 1, "max_detections": 5},
        {"norm": "batch", "class_names": ("one",), "proposals": 1000, "score_threshold": 0.2},
    ],
    ids=str,
)
def test_other_configurations(changes, make_model, photograph, assert_same, load_exported, tmp_path):
    model, image = make_model(**changes), photograph(100, 150)
    (expected,) = model.detect([image], batch_size=1)
    assert len(expected) >= 3
    export_model(model, "onnx", tmp_path / "model.onnx")
    assert_same(load_exported("onnx", tmp_path / "model.onnx")(image[None].astype(np.float32)), 0, expected)


@pytest.mark.parametrize(
    ("backbone", "form"),
    [
        ("efficientnet_lite0", "onnx"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("efficientnet_lite0", "saved_model"), ("resnet50", "onnx"), ("resnet50", "saved_model"))
        ),
    ],
)
def test_frozen_batch_norm(backbone, form, make_model, photograph, assert_same, load_exported, tmp_path):
    # Without training nothing keeps the numbers small in its many layers.
    calm = {"head_class": 1.0, "head_box": 1.0, "mask_logits": 1.0}
    model = make_model(
        backbone=backbone, norm="frozen_batch", normalisation="imagenet", score_threshold=0.05, clearer=calm
    )
    if backbone == "efficientnet_lite0":
        load_imagenet(model)  # whose activations reach the limit of ReLU6
    export_model(model, form, tmp_path / "model")
    run, image = load_exported(form, tmp_path / "model"), photograph(120, 99)
    (expected,) = model.detect([image], batch_size=1)
    assert len(expected) == 20
    assert_same(run(image[None].astype(np.float32)), 0, expected)


@pytest.mark.slow
def test_a_model_of_half_precision_is_exported_in_float32(make_model, small_model, photograph, load_exported, tmp_path):
    images, found = photograph(128, 128)[None].astype(np.float32), {}
    for name, model in (("half", make_model("mixed_bfloat16")), ("whole", small_model)):
        export_model(model, "onnx", tmp_path / name)
        found[name] = load_exported("onnx", tmp_path / name)(images)
    assert found["half"]["count"] > 5
    for name, values in found["whole"].items():
        np.testing.assert_array_equal(found["half"][name], values)


def test_the_notes_travel_with_the_model(form, exported):
    if form == "onnx":
        model = onnx.load(exported.path)
        assert model.doc_string == exported.notes["notice"]
        kept = {each.key: each.value for each in model.metadata_props}
    else:
        kept = json.loads((exported.path / "assets.extra" / "mrcnn.json").read_text())
    expected = {"class_names": '["iso", "hypo"]', "confidence": "0.75"}
    assert kept == exported.notes == {"notice": "Research use only: not a medical device.", **expected}
    assert [path.name for path in exported.path.parent.iterdir()] == [exported.path.name]


def test_weights_are_written_once(exported, small_model):
    files = [exported.path] if exported.path.is_file() else exported.path.rglob("variables.data*")
    assert sum(file.stat().st_size for file in files) < 1.1 * 4 * small_model.count_params()


def test_what_cannot_be_exported_is_told_in_a_line(small_model, tmp_path, monkeypatch):
    (tmp_path / "there").touch()
    for problem, form, path in (
        ("--to tflite: expected saved_model or onnx or onnx_int8", "tflite", tmp_path / "new"),
        ("exists already", "onnx", tmp_path / "there"),
        ("expected a folder that is there", "onnx", tmp_path / "no" / "new"),
    ):
        with pytest.raises(InputError, match=problem):
            export_model(small_model, form, path)
    with pytest.raises(InputError, match="confidence=2: expected a number from 0 to 1"):
        export_model(small_model, "onnx", tmp_path / "new", confidence=2)
    matterport = {"conventions": "matterport", "norm": "frozen_batch", "normalisation": "imagenet"}
    foreign = SimpleNamespace(config=ModelConfig(class_names=("a",), **matterport))
    with pytest.raises(InputError, match="conventions=matterport: cannot be exported"):
        export_model(foreign, "onnx", tmp_path / "new")
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package onnx; install it with pip install 'medmrcnn\[export\]'"):
        export_model(small_model, "onnx", tmp_path / "new")
    assert not (tmp_path / "new").exists()
