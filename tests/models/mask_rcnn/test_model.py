from dataclasses import dataclass

import keras
import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.errors import InputError
from mrcnn.geometry.masks import paste_crop
from mrcnn.instance_masks import InstanceMasks
from mrcnn.models import MaskRCNN, load
from mrcnn.models.mask_rcnn import model as mask_rcnn
from mrcnn.models.mask_rcnn.losses import LOSSES

TWO = [[(4, 4, 24, 28, 1)], [(30, 20, 60, 44, 2), (2, 40, 20, 60, 1)]]


def finite(logs):
    return all(np.isfinite(float(value)) for value in logs.values())


def compiled(config, *, eager=False, **kwargs):
    """Create a compiled model; `eager` for a few steps, since compiling a graph takes as long as ten of them."""
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config, **kwargs)
    model.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9, global_clipnorm=5.0), run_eagerly=eager)
    return model


def detections(model, batch):
    return {name: keras.ops.convert_to_numpy(value) for name, value in model({"image": batch["image"]}).items()}


@dataclass
class Fitted:
    """A model after 20 steps on one batch, with the history and the number of traces of that training."""

    model: MaskRCNN
    batch: dict
    weights: list
    history: dict
    traces: int


@pytest.fixture(scope="module")
def fitted(tiny, blob_batch):
    traced, flatten = [], mask_rcnn.flatten_levels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "flatten_levels", lambda *given: traced.append(1) or flatten(*given))
        model = compiled(tiny(score_threshold=0.01))
        batch = blob_batch(model.config, TWO)
        history = model.fit(((batch,) for _ in range(20)), steps_per_epoch=10, epochs=2, verbose=0).history
    return Fitted(model, batch, model.get_weights(), history, len(traced))


@pytest.fixture(scope="module")
def untrained(tiny):
    return compiled(tiny(score_threshold=0.01), eager=True)


def test_detections_have_the_promised_shapes(untrained, blob_batch):
    outputs = untrained.predict(blob_batch(untrained.config, TWO), verbose=0)
    assert {name: value.shape for name, value in outputs.items()} == {
        "boxes": (2, 10, 4),
        "scores": (2, 10),
        "class_ids": (2, 10),
        "masks": (2, 10, 28, 28),
    }
    assert ((outputs["scores"] >= 0.01) == (outputs["class_ids"] > 0)).all()
    assert (np.diff(outputs["scores"], axis=1) <= 0).all()
    assert outputs["boxes"].min() >= 0
    assert outputs["boxes"].max() <= 64
    assert outputs["masks"].min() >= 0
    assert outputs["masks"].max() <= 1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's tracing")
def test_the_step_is_traced_once(fitted):
    """Creating the optimizer's variables in the first step would require a second trace."""
    assert fitted.traces == 1


@pytest.fixture(scope="module")
def predicted(tiny, fitted):
    """Return a model of 40 detections with the fitted weights, its predictions by a graph, and a list of its traces."""
    traced, flatten = [], mask_rcnn.flatten_levels
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mask_rcnn, "flatten_levels", lambda *given: traced.append(1) or flatten(*given))
        model = compiled(tiny(max_detections=40, score_threshold=0.3))
        model.set_weights(fitted.weights)
        yield model, model.predict_on_batch(fitted.batch), traced


def test_masks_do_not_depend_on_how_many_slots_are_computed(predicted, fitted, monkeypatch):
    model, some, _ = predicted
    monkeypatch.setattr(mask_rcnn, "MASK_SLOTS", ())
    every = detections(model, fitted.batch)
    found = every["class_ids"] > 0
    assert 0 < found.sum(axis=1).max() < 40
    np.testing.assert_allclose(some["masks"][found], every["masks"][found], atol=1e-5)  # a graph rounds otherwise
    # Forty slots in chunks of seven, of which the last is not full.
    monkeypatch.setattr(mask_rcnn, "MASK_CHUNK", 7)
    chunks = detections(model, fitted.batch)
    np.testing.assert_array_equal(chunks["boxes"], every["boxes"])
    np.testing.assert_allclose(chunks["masks"], every["masks"], atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="of TensorFlow's tracing")
def test_predictions_are_traced_once_and_use_the_present_weights(predicted, fitted):
    """Each stage of a training compiles the model, and the best weights replace the last at its end."""
    model, before, traced = predicted
    traced[:] = []
    model.compile(optimizer="adam")
    model.set_weights([weight * 1.01 for weight in fitted.weights])
    after = model.predict_on_batch(fitted.batch)
    assert not traced
    assert after["scores"].any() and (after["scores"] != before["scores"]).any()
    model.compile(run_eagerly=True)
    np.testing.assert_allclose(after["scores"], model.predict_on_batch(fitted.batch)["scores"], rtol=1e-4)
    assert len(traced) == 1


def assert_learns(history):
    assert set(history) == {"loss", *LOSSES}
    assert history["loss"][1] < history["loss"][0]
    assert history["loss"][1] == pytest.approx(sum(history[name][1] for name in LOSSES), rel=1e-4)


def test_fit_and_evaluate(tiny, fitted):
    assert_learns(fitted.history)
    results = compiled(tiny(), eager=True).evaluate(fitted.batch, verbose=0, return_dict=True)
    assert set(results) == {"loss", *LOSSES}
    assert finite(results)


@pytest.mark.slow
def test_fit_evaluate_detect_with_one_box_for_all_classes(tiny, blob_batch):
    model = compiled(tiny(class_agnostic=True))
    batch = blob_batch(model.config, TWO)
    assert_learns(model.fit(((batch,) for _ in range(20)), steps_per_epoch=10, epochs=2, verbose=0).history)
    assert finite(model.evaluate(batch, verbose=0, return_dict=True))
    assert len(model.detect([np.zeros((40, 90, 1), np.uint8)])) == 1


EDGES = {
    "no instance": [[], []],
    "one image without": [[(4, 4, 24, 28, 1)], []],
    "one pixel": [[(10, 10, 11, 11, 1)], [(0, 0, 1, 1, 2)]],
    "on the border": [[(0, 0, 64, 5, 1), (59, 0, 64, 64, 2)], [(0, 0, 64, 64, 1)]],
    "identical": [[(8, 8, 30, 30, 1)] * 4, [(8, 8, 30, 30, 1), (8, 8, 30, 30, 2)]],
}


@pytest.mark.parametrize("case", EDGES)
def test_losses_stay_finite(blob_batch, fitted, case):
    model = fitted.model
    model.set_weights(fitted.weights)
    batch = blob_batch(model.config, EDGES[case])
    history = model.fit(((batch,) for _ in range(2)), steps_per_epoch=1, epochs=2, verbose=0).history
    assert np.isfinite(list(history.values())).all()
    assert all(np.isfinite(keras.ops.convert_to_numpy(w)).all() for w in model.weights)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "batch", "class_weights": (1.0, 2.0, 2.0), "focal_gamma": 2.0, "channels": 3},
        {"backbone": "efficientnet_lite0", "norm": "frozen_batch"},
        {"image_size": (96, 64), "anchor_ratios": (1.0,)},
    ],
)
@pytest.mark.parametrize("eager", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_configurations_train(tiny, blob_batch, changes, eager):
    model = compiled(tiny(**changes), eager=eager)
    assert finite(model.train_on_batch(blob_batch(model.config, TWO), return_dict=True))


def test_mixed_precision_trains_and_keeps_geometry_exact(tiny, blob_batch):
    config = tiny()
    model = compiled(config, dtype="mixed_bfloat16", eager=True)
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.backbone.get_layer("conv1_conv").compute_dtype == "bfloat16"
    batch = blob_batch(config, TWO)
    first = model.train_on_batch(batch, return_dict=True)
    for _ in range(5):
        last = model.train_on_batch(batch, return_dict=True)
    assert finite(last)
    assert float(last["loss"]) < float(first["loss"])
    assert detections(model, batch)["boxes"].dtype == np.float32


def test_save_and_load_give_the_same_outputs(fitted, tmp_path):
    model = fitted.model
    model.save(tmp_path / "model.keras")
    expected = detections(model, fitted.batch)
    whole = keras.models.load_model(tmp_path / "model.keras")
    assert int(whole.optimizer.iterations) == int(model.optimizer.iterations) >= 20
    for mine, loaded in zip(model.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(mine), keras.ops.convert_to_numpy(loaded))
    for again in (load(tmp_path / "model.keras"), whole):
        assert again.config == model.config
        found = detections(again, fitted.batch)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)


def test_a_mixed_model_computes_in_float32_where_bfloat16_would_be_slow(tiny, tmp_path, monkeypatch):
    model = MaskRCNN(tiny(), dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    for able, computed_in in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("mrcnn.models.detector_base.computes_in_bfloat16", lambda able=able: able)
        again = load(tmp_path / "model.keras")
        assert again.backbone.get_layer("conv1_conv").compute_dtype == computed_in
        for mine, loaded in zip(model.get_weights(), again.get_weights(), strict=True):
            np.testing.assert_array_equal(loaded, mine)


def test_load_reports_invalid_files(tmp_path):
    with pytest.raises(InputError, match=r"missing\.keras: no such file"):
        load(tmp_path / "missing.keras")
    (tmp_path / "broken.keras").write_bytes(b"not a zip")
    with pytest.raises(InputError, match=r"broken\.keras: not a readable"):
        load(tmp_path / "broken.keras")
    other = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(InputError, match="expected a MaskRCNN"):
        load(tmp_path / "other.keras")


@pytest.mark.slow
def test_same_seed_same_training(tiny, blob_batch):
    def losses():
        model = compiled(tiny(), seed=3)
        batch = blob_batch(model.config, TWO)
        return [float(model.train_on_batch(batch, return_dict=True)["loss"]) for _ in range(3)]

    assert losses() == losses()


def test_mask_branch_sees_a_quarter_of_the_regions_and_then_only_detections(tiny, blob_batch):
    model = MaskRCNN(tiny(roi_samples=32, max_detections=5))
    seen = []
    call = model.mask_head.call
    model.mask_head.call = lambda inputs, **kwargs: seen.append(inputs.shape[0]) or call(inputs, **kwargs)
    batch = {name: keras.ops.convert_to_tensor(value) for name, value in blob_batch(model.config, TWO).items()}
    model(batch, training=True)
    model({"image": batch["image"]})
    assert seen == [2 * 8, 2 * 5]


def test_detect_accepts_any_size_and_type(untrained):
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 255, (40, 90, 1)).astype(np.uint8),
        rng.integers(0, 255, (200, 33, 3)).astype(np.uint8),
        rng.integers(0, 60000, (64, 64, 1)).astype(np.uint16),
        rng.normal(size=(1, 7, 1)).astype(np.float32),
        rng.normal(size=(50, 50)).astype(np.float32),
    ]
    found = untrained.detect(images, batch_size=2)
    for image, detections in zip(images, found, strict=True):
        height, width = image.shape[:2]
        assert detections.masks.shape == (len(detections), height, width)
        assert (detections.boxes <= [width, height, width, height]).all()
        assert (detections.boxes >= 0).all()


def test_detect_does_not_depend_on_the_batch(untrained):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (50, 60, 1)).astype(np.uint8) for _ in range(3)]
    together = untrained.detect(images, batch_size=3)
    for image, expected in zip(images, together, strict=True):
        alone = untrained.detect([image], batch_size=1)[0]
        np.testing.assert_allclose(alone.scores, expected.scores, atol=1e-5)
        np.testing.assert_allclose(alone.boxes, expected.boxes, atol=1e-2)


@pytest.mark.slow
def test_overfits_four_images(tiny, blob_batch):
    """Overfitting four images finds every instance with a mask Dice of at least 0.95."""
    config = tiny(fpn_channels=32, mask_channels=32, mask_convolutions=2, head_width=64, roi_samples=32)
    boxes = [[(4, 4, 30, 34, 1)], [(20, 16, 60, 44, 2)], [(2, 34, 30, 62, 2), (34, 2, 60, 28, 1)], []]
    batch = blob_batch(config, boxes)
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    model.compile(optimizer=keras.optimizers.AdamW(2e-3, global_clipnorm=5.0))
    model.fit(((batch,) for _ in range(250)), steps_per_epoch=250, epochs=1, verbose=0)
    outputs = model.predict(batch, verbose=0)
    y, x = np.mgrid[:64, :64] + 0.5
    for i, truths in enumerate(boxes):
        confident = outputs["scores"][i] >= 0.5
        assert confident.sum() == len(truths)
        for x1, y1, x2, y2, class_id in truths:
            truth = ((x - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2 <= 1
            dices = []
            for slot in np.flatnonzero(confident & (outputs["class_ids"][i] == class_id)):
                crop = paste_crop(outputs["masks"][i, slot], outputs["boxes"][i, slot], 64, 64)
                mask = InstanceMasks(64, 64, [crop]).mask(0)
                dices.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
            assert max(dices) >= 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 100}, "image_size=100.*multiple of 32"),
        ({"class_names": ("a", "a")}, "class_names.*each name once"),
        ({"class_names": ()}, "class_names"),
        ({"anchor_sizes": ((8,), (16,))}, "anchor_sizes.*5 levels"),
        ({"anchor_ratios": ()}, "anchor_ratios"),
        ({"rpn_negative_iou": 0.8}, r"rpn_negative_iou=0\.8"),
        ({"class_weights": (1.0,)}, "class_weights has 1 values: expected 3"),
        ({"normalisation": "imagenet"}, "channels=1"),
        ({"backbone": "vgg"}, "resnet50"),
        ({"imagesize": 3}, "imagesize"),
    ],
)
def test_invalid_configurations_are_rejected(tiny, changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_defaults_are_a_valid_configuration():
    config = ModelConfig(class_names=("a",))
    assert (config.mask_size, config.target_mask_size, config.roi_positives) == (28, 56, 32)
