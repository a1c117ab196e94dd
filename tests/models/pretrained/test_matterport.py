"""Parity with matterport's Mask R-CNN.

The expected arrays are what the reference (akTwelve/Mask_RCNN, TensorFlow 2.15) detects on the image of
`matterport_file.test_image` with the weights of `matterport_file.write_matterport_file`, made there by the same module:
IMAGE_MIN_DIM = IMAGE_MAX_DIM = the size below, other settings its defaults, with the minimum confidence below.
"""

from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.encoding import make_batch, prepare_image
from mrcnn.models import MaskRCNN, load
from mrcnn.models.pretrained.initial_weights import load_weights, settings_for

pytestmark = pytest.mark.usefixtures("eager")
DATA = Path(__file__).parent / "data"
CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="session")
def model(seeded_h5):
    """Return a model for 256 × 256 pixels with the seeded weights."""
    return seeded_model(seeded_h5, 256, 0.85)


def seeded_model(path, size, confidence):
    config = ModelConfig(
        class_names=CLASSES, **{**settings_for(path), "image_size": size, "score_threshold": confidence}
    )
    made = MaskRCNN(config)
    report = load_weights(made, path)
    assert not report.skipped and not report.unused, report.text()
    return made


@pytest.mark.parametrize(("name", "height", "width"), [("square", 256, 256), ("wide", 230, 410)])
def test_detections_equal_the_reference(model, matterport_file, agree, monkeypatch, name, height, width):
    outputs, predict = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda batch: outputs.append(predict(batch)) or outputs[-1])
    expected = np.load(DATA / f"matterport_{name}.npz")
    # It rounds boxes to whole pixels.
    (found,) = model.detect([matterport_file.test_image(height, width)], batch_size=1)
    agree(found, expected, expected["boxes"][:, [1, 0, 3, 2]], 0.5 + 1e-3)
    # Before rounding, in its own coordinates: 0 … 1 from the first pixel's center to the last's.
    theirs = expected["network_boxes"][:, [1, 0, 3, 2]] * 255 + [0, 0, 1, 1]
    np.testing.assert_allclose(outputs[0]["boxes"][0, : len(theirs)], theirs, atol=5e-3)


@pytest.mark.slow
def test_detections_of_resnet101_equal_the_reference(matterport_file, agree, tmp_path):
    path = tmp_path / "seeded.h5"
    matterport_file.write_matterport_file(path, backbone="resnet101", classes=1 + len(CLASSES))
    expected = np.load(DATA / "matterport_resnet101.npz")
    model = seeded_model(path, 192, 0.6)
    assert model.config.backbone == "resnet101"
    found = model.detect([matterport_file.test_image(192, 192)], batch_size=1)[0]
    agree(found, expected, expected["boxes"][:, [1, 0, 3, 2]], 0.5 + 1e-3)


@pytest.mark.parametrize("shape", [(256, 256), (100, 400), (333, 201)])
def test_box_conversion_round_trip(shape, model):
    _, letterbox = prepare_image(np.zeros((*shape, 3), np.uint8), model.config)
    height, width = shape
    whole = np.array([[0, 0, width, height], [0, 0, min(3, width), 1]], np.float32)
    network = letterbox.to_network(whole)
    np.testing.assert_allclose(network[0], letterbox.window, atol=1e-3)
    np.testing.assert_allclose(letterbox.to_original(network), whole, atol=1e-3)


def test_input_is_mean_subtracted_and_padded(model):
    image = np.full((128, 256, 3), (10, 20, 30), np.uint8)
    pixels, _ = prepare_image(image, model.config)
    np.testing.assert_allclose(pixels[128, 128], [10 - 123.7, 20 - 116.8, 30 - 103.9], atol=1e-4)
    np.testing.assert_allclose(pixels[10, 128], [-123.7, -116.8, -103.9], atol=1e-4)
    assert (pixels[64:192] > -120).all() and pixels.shape == (256, 256, 3)


def test_other_classes_reinitialize_train_and_save(seeded_h5, matterport_file, tmp_path):
    config = ModelConfig(
        class_names=("nodule",), **{**settings_for(seeded_h5), "image_size": 64, "proposals": 50, "roi_samples": 16},
        max_instances=2,
    )  # fmt: skip
    model = MaskRCNN(config)
    before = model.box_head.get_layer("head_class").get_weights()[0]
    report = load_weights(model, seeded_h5)
    left = {each.layer: each for each in report.skipped}
    assert set(left) == {"head_class", "head_box", "mask_logits"}
    assert left["head_class"].found == ((1024, 5), (5,)) and left["head_class"].expected == ((1024, 2), (2,))
    assert "head_class 1024×2 2: the file's mrcnn_class_logits has 1024×5 5" in report.text()
    assert "start anew" in report.text()
    np.testing.assert_array_equal(model.box_head.get_layer("head_class").get_weights()[0], before)

    mask = np.zeros((1, 80, 60), bool)
    mask[0, 20:60, 10:50] = True
    sample = Sample(matterport_file.test_image(80, 60), mask, np.array([1], np.int32), patient_id="p", source="made")
    batch = make_batch([sample], config)
    model.compile(optimizer=keras.optimizers.SGD(1e-4))
    assert np.isfinite(model.train_on_batch(batch, return_dict=True)["loss"])

    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras")
    pixels = {"image": batch["image"], **model.conventions.window_inputs([], 1)}
    before, after = model.predict_on_batch(pixels), again.predict_on_batch(pixels)
    assert again.config == config
    for name in before:
        np.testing.assert_allclose(after[name], before[name], atol=1e-4)
