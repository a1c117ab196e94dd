"""Test the shapes, targets, losses, overfitting and connected components of ResUNet."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from mrcnn.config import ResUNetConfig
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.dense_encoding import classes_overlap, make_dense_batch
from mrcnn.data.transforms.encoding import Letterbox
from mrcnn.models import ResUNet, load
from mrcnn.models.baselines.unet import cross_entropy, dice_loss, focal_tversky, instances_from_class_maps

CONFIG = ResUNetConfig(class_names=("iso", "hypo"), image_size=64, widths=(16, 32, 32))


def blobs(count, seed=0, size=64):
    """Return samples with a bright disc (class 1) and a dark disc (class 2) each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    samples = []
    for number in range(count):
        masks = np.stack([np.hypot(x - 18 - 4 * number, y - 16) < 9, np.hypot(x - 40, y - 46 + 2 * number) < 11])
        image = rng.normal(128, 10, (size, size)) + 70 * masks[0] - 70 * masks[1]
        image = image.clip(0, 255).astype(np.uint8)[..., None]
        samples.append(Sample(image, masks, np.array([1, 2], np.int32), f"p{number}", f"{number}.png"))
    return samples


@pytest.mark.parametrize("exclusive", [False, True])
def test_outputs_are_probabilities_of_input_size(exclusive):
    config = CONFIG.model_copy(update={"exclusive": exclusive, "widths": (16, 32, 32, 48)})
    model = ResUNet(config)
    assert [output.shape[1:] for output in model.backbone.outputs] == [
        (64, 64, 16), (32, 32, 32), (16, 16, 32), (8, 8, 48),
    ]  # fmt: skip
    model.compile()
    found = model.predict_on_batch({"image": np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype(np.float32)})
    assert found.shape == (2, 64, 64, 2 + exclusive)
    assert found.min() >= 0 and found.max() <= 1
    if exclusive:
        np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_losses_by_hand():
    # One image of 1 × 2 pixels and one class: truth 1, 0, probabilities 0.8, 0.4.
    maps = np.array([1, 0], np.float32).reshape(1, 1, 2, 1)
    probabilities = np.array([0.8, 0.4], np.float32).reshape(1, 1, 2, 1)
    logits = np.log(probabilities / (1 - probabilities))
    assert float(dice_loss(probabilities, maps)) == pytest.approx(1 - (2 * 0.8 + 1) / (1 + 1.2 + 1))
    assert float(cross_entropy(logits, maps, False)) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    index = (0.8 + 1) / (0.8 + 0.7 * 0.2 + 0.3 * 0.4 + 1)
    assert float(focal_tversky(probabilities, maps)) == pytest.approx((1 - index) ** 0.75)
    # Softmax over background and two classes: −log of the true one's share.
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32)).reshape(1, 1, 1, 3)
    truth = np.array([0, 1, 0], np.float32).reshape(1, 1, 1, 3)
    assert float(cross_entropy(logits, truth, True)) == pytest.approx(-np.log(0.5), abs=1e-6)


def test_losses_and_gradients_are_finite_without_instances_and_without_errors(gradients):
    nothing = np.zeros((2, 4, 4, 1), np.float32)
    for loss in (dice_loss, focal_tversky):
        for found, truth in ((nothing, nothing), (nothing + 1, nothing), (nothing + 1, nothing + 1)):
            assert np.isfinite(float(loss(found, truth)))
            (slope,) = gradients(lambda values, loss=loss, truth=truth: loss(values, truth), found)
            assert np.isfinite(slope).all()


@pytest.mark.parametrize("loss", ["dice_cross_entropy", pytest.param("focal_tversky", marks=pytest.mark.slow)])
def test_overfits_four_images(loss, tmp_path):
    """Almost all pixels are correct, each instance is one component, and a saved model gives the same result."""
    keras.utils.set_random_seed(0)
    config = CONFIG.model_copy(update={"exclusive": loss != "focal_tversky", "loss": loss})
    samples, model = blobs(4), ResUNet(config)
    model.compile(optimizer=keras.optimizers.AdamW(3e-3))
    batch = make_dense_batch(samples, config)
    for _ in range(30):
        model.train_on_batch(batch)
    images = [sample.image for sample in samples]
    found = model.detect(images, batch_size=3)
    for sample, detections in zip(samples, found, strict=True):
        sure = detections.above(0.8)
        assert sorted(sure.class_ids) == [1, 2]
        for mask, class_id in zip(sure.masks, sure.class_ids, strict=True):
            truth = sample.masks[class_id - 1]
            assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.95
    model.save(tmp_path / "model.keras")
    again = load(tmp_path / "model.keras", (ResUNet,)).detect(images, batch_size=3)
    np.testing.assert_allclose(again[3].scores, found[3].scores, atol=1e-5)
    with pytest.raises(ValueError, match="holds a ResUNet, expected a MaskRCNN"):
        load(tmp_path / "model.keras")


def test_targets_are_the_masks_in_the_networks_pixels():
    (sample,) = blobs(1, size=128)
    batch = make_dense_batch([sample], CONFIG)
    assert batch["maps"].shape == (1, 64, 64, 2) and batch["maps"].dtype == np.uint8
    # A pixel of 2 × 2 that are half covered counts; others by their majority.
    covered = sample.masks[0].reshape(64, 2, 64, 2).mean(axis=(1, 3))
    decided = np.abs(covered - 0.5) > 0.3
    np.testing.assert_array_equal(batch["maps"][0, ..., 0][decided], (covered > 0.5)[decided])


def test_exclusive_targets_use_the_smallest_instance():
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 10:20, 10:20] = True
    masks[1, :40, :40] = True
    sample = Sample(np.zeros((64, 64, 1), np.uint8), masks, np.array([1, 2], np.int32), "p", "s")
    exclusive = make_dense_batch([sample], CONFIG.model_copy(update={"exclusive": True}))["maps"][0]
    np.testing.assert_array_equal(exclusive.sum(axis=-1), 1)
    np.testing.assert_array_equal(exclusive[..., 1], masks[0])
    np.testing.assert_array_equal(exclusive[..., 2], masks[1] & ~masks[0])
    both = make_dense_batch([sample], CONFIG)["maps"][0]
    np.testing.assert_array_equal(both[..., 1], masks[1])


class Set:
    """The part of a `Dataset` that the function uses."""

    class_names = ("iso", "hypo")

    def __init__(self, samples):
        self.records, self._samples = samples, samples

    def instances(self, index):
        return self._samples[index].instances


def test_classes_overlap_where_they_share_more_than_a_border():
    apart = blobs(3)
    assert not classes_overlap(Set(apart))
    y, x = np.mgrid[:64, :64]
    nested = np.stack([np.hypot(x - 30, y - 30) < 20, np.hypot(x - 30, y - 30) < 10])
    assert classes_overlap(Set([*apart, Sample(apart[0].image, nested, np.array([1, 2], np.int32), "p", "s")]))
    touching = np.stack([x < 32, x >= 32])
    touching[0, 5, 32] = True  # one pixel of 2048 twice
    assert not classes_overlap(Set([Sample(apart[0].image, touching, np.array([1, 2], np.int32), "p", "s")]))


def test_connected_components_by_hand():
    maps = np.zeros((8, 8, 1), np.float32)
    maps[1:3, 1:3, 0] = 0.9
    maps[3, 3, 0] = 0.6  # touches at the corner: the same piece
    maps[6, 6:8, 0] = 0.7
    maps[6, 0, 0] = 0.4
    found = instances_from_class_maps(maps, Letterbox(1.0, 8, 8), exclusive=False, limit=10)
    np.testing.assert_allclose(found.scores, [(4 * 0.9 + 0.6) / 5, 0.7], atol=1e-6)
    np.testing.assert_array_equal(found.boxes, [[1, 1, 4, 4], [6, 6, 8, 7]])
    assert found.masks[0].sum() == 5 and list(found.class_ids) == [1, 1]
    # The largest stays, though the smaller had a score too.
    assert len(instances_from_class_maps(maps, Letterbox(1.0, 8, 8), exclusive=False, limit=1)) == 1
    assert len(instances_from_class_maps(maps * 0, Letterbox(1.0, 8, 8), exclusive=False, limit=1)) == 0


def test_exclusive_classes_use_the_highest_probability():
    maps = np.zeros((4, 4, 3), np.float32)
    maps[..., 0] = 1
    maps[1, 1] = 0.2, 0.35, 0.45
    maps[1, 2] = 0.3, 0.4, 0.3
    found = instances_from_class_maps(maps, Letterbox(1.0, 4, 4), exclusive=True, limit=10)
    assert dict(zip(found.class_ids.tolist(), found.scores.tolist(), strict=True)) == pytest.approx({2: 0.45, 1: 0.4})


def test_components_are_in_original_pixels():
    maps = np.zeros((64, 64, 1), np.float32)
    maps[8:24, 4:12, 0] = 1
    found = instances_from_class_maps(maps, Letterbox(0.5, 100, 128), exclusive=False, limit=5)
    assert found.masks.shape == (1, 100, 128)
    np.testing.assert_allclose(found.boxes[0], [8, 16, 24, 48], atol=1)


def test_invalid_widths_are_rejected():
    with pytest.raises(ValidationError, match="multiples of 16"):
        ResUNetConfig(class_names=("a",), widths=(16, 20))
