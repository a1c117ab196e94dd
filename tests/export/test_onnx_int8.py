"""The ONNX export in 8-bit integers beside that in float32."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from pycocotools import mask as coco_mask

from mrcnn import make_batch
from mrcnn.config import ModelConfig
from mrcnn.data.sample import Sample
from mrcnn.errors import InputError
from mrcnn.export import export_model, exporting, onnx_int8
from mrcnn.models import MaskRCNN


@pytest.fixture(scope="module")
def exported(small_model, photograph, tmp_path_factory):
    """The folder with the small model in both forms, and the notes of the integers."""
    folder = tmp_path_factory.mktemp("exported")
    export_model(small_model, "onnx", folder / "small.onnx")
    images = [photograph(97 + seed, 131, seed=seed) for seed in range(9)]
    return folder, export_model(small_model, "onnx_int8", folder / "small_int8.onnx", calibration=images)


def test_weights_are_integers_within_half_a_step(exported):
    folder, _ = exported
    assert 3 < (folder / "small.onnx").stat().st_size / (folder / "small_int8.onnx").stat().st_size < 4
    whole, integers = (
        {each.name: numpy_helper.to_array(each) for each in onnx.load(folder / name).graph.initializer}
        for name in ("small.onnx", "small_int8.onnx")
    )
    quantized = [name for name in integers if name.endswith("/kernel_quantized")]
    assert len(quantized) == sum(name.endswith("/kernel") for name in whole)  # no layer is left out
    for name in ("rpn_conv/kernel", "mask_conv1/kernel"):
        kernel, values, scale = whole[name], integers[f"{name}_quantized"], integers[f"{name}_scale"]
        assert values.dtype == np.int8 and np.abs(values).max() <= 64 and scale.shape == (len(kernel),)
        np.testing.assert_allclose(
            values * scale[:, None, None, None], kernel, atol=0.501 * scale.max(), err_msg=name
        )  # each output channel has its own scale


def test_the_file_has_the_interface_and_notes_of_float32(exported, photograph, load_exported):
    folder, notes = exported
    model = onnx.load(folder / "small_int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {each.key: each.value for each in model.metadata_props} == notes
    assert model.doc_string == notes["notice"] and [each.domain for each in model.opset_import] == [""]
    agreement = json.loads(notes["agreement"])
    assert agreement["images"] == 3 and 0 < agreement["mask_iou"] <= 1  # of 9 images the first, fifth and ninth
    images = np.stack([photograph(80, 110, seed=20), photograph(80, 110, seed=21)]).astype(np.float32)
    whole, found = (load_exported("onnx", folder / name)(images) for name in ("small.onnx", "small_int8.onnx"))
    assert {name: (each.dtype, each.ndim) for name, each in found.items()} == {
        name: (each.dtype, each.ndim) for name, each in whole.items()
    }
    assert found["masks"].shape[2:] == (80, 110) and (found["count"] > 0).all()


def test_agreement_by_hand(monkeypatch):
    first = np.zeros((1, 2, 4, 4), np.uint8)
    first[0, 0, :2], first[0, 1, 3] = 1, 1
    second = np.zeros((1, 2, 4, 4), np.uint8)
    second[0, 0, :1], second[0, 1, 3] = 1, 1
    # Half of the first instance is found; the second has the other class there.
    answers = {
        "a": (np.array([[0.8, 0.4]]), np.array([[1, 2]]), first),
        "b": (np.array([[0.6, 0.2]]), np.array([[1, 1]]), second),
    }
    monkeypatch.setattr(
        onnx_int8.onnxruntime,
        "InferenceSession",
        lambda path, providers: SimpleNamespace(run=lambda names, feed: answers[path]),
    )
    expected = (0.8 * 0.5 + 0.6 * 0.5) / (0.8 + 0.4 + 0.6 + 0.2)
    assert onnx_int8.mask_agreement("a", "b", [np.zeros((4, 4, 1))]) == pytest.approx(expected)
    assert onnx_int8.mask_agreement("a", "a", [np.zeros((4, 4, 1))]) == pytest.approx(1)


def test_missing_images_and_packages_are_one_line(small_model, photograph, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"--to onnx_int8: 7 calibration images; expected at least 8 .* --calibration"):
        export_model(small_model, "onnx_int8", tmp_path / "new", calibration=[photograph(64, 64)] * 7)
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(InputError, match=r"needs the package onnxruntime; install it with pip install 'medmrcnn\[exp"):
        export_model(small_model, "onnx_int8", tmp_path / "new", calibration=[photograph(64, 64)] * 8)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_trained_model_finds_the_same(load_exported, tmp_path):
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:64, :64]
    samples = []
    for number in range(24):
        center, radii = rng.uniform(20, 44, 2), rng.uniform(8, 16, 2)
        mask = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 <= 1
        image = rng.normal(90 + 90 * mask, 12).clip(0, 255).astype(np.uint8)[..., None]
        samples.append(Sample(image, mask[None], np.array([1], np.int32), str(number), f"{number}.png"))
    config = ModelConfig(
        class_names=("blob",), image_size=64, channels=1, backbone="small", fpn_channels=32, head_width=64,
        mask_channels=32, mask_convolutions=2, anchor_sizes=((8,), (16,), (24,), (32,), (48,)), proposals_per_level=50,
        proposals=50, roi_samples=16, max_detections=10, roi_canonical_size=32,
    )  # fmt: skip
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    model.compile(optimizer=keras.optimizers.AdamW(2e-3, global_clipnorm=5.0))
    batch = make_batch(samples[:8], config)
    model.fit(((batch,) for _ in range(120)), steps_per_epoch=120, epochs=1, verbose=0)
    images = [sample.image for sample in samples]
    notes = export_model(model, "onnx_int8", tmp_path / "int8", confidence=0.5, calibration=images[:16])
    assert json.loads(notes["agreement"])["mask_iou"] > 0.8
    run = load_exported("onnx", tmp_path / "int8")
    same = 0
    for image, expected in zip(images[16:], model.detect(images[16:]), strict=True):
        expected, found = expected.above(0.5), run(image[None].astype(np.float32))
        sides = [[coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in masks]
                 for masks in (expected.masks, found["masks"][0])]  # fmt: skip
        iou = coco_mask.iou(*sides, [0] * len(sides[1]))
        same += len(expected) == found["count"][0] == 1 and iou[0][0] > 0.85
    assert same >= 7  # of 8 images that neither was trained or calibrated on
