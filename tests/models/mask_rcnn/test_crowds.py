"""Test training with crowds, which are neither instances nor background."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.config import ResUNetConfig
from mrcnn.geometry.anchors import anchor_grid
from mrcnn.geometry.masks import covered_fraction
from mrcnn.models import MaskRCNN
from mrcnn.models.baselines.unet import ResUNet
from mrcnn.models.mask_rcnn.targets import anchor_targets, region_targets


def share_by_hand(mask, box):
    x1, y1 = np.clip(np.floor(box[:2]), 0, len(mask)).astype(int)
    x2, y2 = np.clip(np.ceil(box[2:]), 0, len(mask)).astype(int)
    part = mask[y1:y2, x1:x2]
    return part.mean() if part.size else 0.0


def test_covered_fraction_is_the_mean_of_the_pixels():
    rng = np.random.default_rng(0)
    masks = (rng.random((2, 32, 32)) < 0.4).astype(np.uint8)
    corners = rng.uniform(-10, 40, (2, 50, 2, 2))
    boxes = np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=-1).astype(np.float32)
    boxes[0, 0], boxes[0, 1] = 0, (50, 50, 60, 60)
    expected = [[share_by_hand(mask, box) for box in row] for mask, row in zip(masks, boxes, strict=True)]
    np.testing.assert_allclose(covered_fraction(masks, boxes), expected, atol=1e-6)
    expected = [[share_by_hand(mask, box) for box in boxes[0]] for mask in masks]
    np.testing.assert_allclose(covered_fraction(masks, boxes[0]), expected, atol=1e-6)


def test_anchors_in_a_crowd_are_no_background(tiny, blob_batch):
    config = tiny(rpn_samples=2000)
    batch = blob_batch(config, [[(4, 4, 20, 24, 1)]])
    grid, noise = anchor_grid(config), np.random.default_rng(0).random((1, len(anchor_grid(config)))).astype("float32")
    in_crowd = grid[None, :, 0] >= 32  # the right half, where no instance is
    plain = anchor_targets(grid, batch["boxes"], batch["valid"], noise, config)
    found = anchor_targets(grid, batch["boxes"], batch["valid"], noise, config, in_crowd)

    def used(target, positive):
        chosen = ops.convert_to_numpy(target.used - target.positive if not positive else target.positive)[0] > 0
        return set(ops.convert_to_numpy(target.index)[0][chosen].tolist())

    assert used(found, True) == used(plain, True)
    assert used(found, False) == used(plain, False) - set(np.flatnonzero(in_crowd[0]).tolist())


def test_regions_in_a_crowd_are_no_background(tiny, blob_batch):
    config = tiny(max_instances=2)
    batch = blob_batch(config, [[(10, 10, 30, 30, 2)]])
    proposals = np.array([[[10, 10, 30, 26], [40, 40, 60, 60], [0, 0, 5, 5]]], np.float32)
    valid, noise = np.ones((1, 3), bool), np.random.default_rng(0).random((1, 5)).astype("float32")
    in_crowd = np.array([[True, True, False]])
    target = region_targets(proposals, valid, batch, noise, config, in_crowd)
    used = ops.convert_to_numpy(target.used)[0] > 0
    boxes = ops.convert_to_numpy(target.boxes)[0]
    # A proposal that is an instance stays one; of the two others the one outside of the crowd is background.
    assert sorted(boxes[used].tolist()) == [[0, 0, 5, 5], [10, 10, 30, 26], [10, 10, 30, 30]]


@pytest.mark.parametrize("everywhere", [False, True])
def test_losses_of_an_image_that_is_a_crowd(tiny, blob_batch, everywhere):
    """If a crowd covers the image and there are no instances, there are no samples."""
    keras.utils.set_random_seed(0)
    config = tiny()
    model = MaskRCNN(config)
    batch = blob_batch(config, [[], []]) | {"ignore": np.full((2, 64, 64), everywhere, np.uint8)}
    found = {name: float(value) for name, value in model(batch, training=False).items()}
    assert (sum(found.values()) == 0) == everywhere
    model.compile(optimizer="sgd", run_eagerly=True)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(batch)).all()
    changed = any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    assert changed != everywhere


@pytest.mark.parametrize("loss", ["dice_cross_entropy", "focal_tversky"])
@pytest.mark.parametrize("exclusive", [False, True])
def test_maps_of_a_baseline_do_not_matter_in_a_crowd(loss, exclusive):
    config = ResUNetConfig(
        class_names=("iso", "hypo"), image_size=64, channels=1, widths=(16, 16), loss=loss, exclusive=exclusive
    )
    model, rng = ResUNet(config), np.random.default_rng(0)
    maps = np.zeros((1, 64, 64, config.maps), np.uint8)
    maps[..., 0] = 1
    ignored = np.zeros((1, 64, 64), np.uint8)
    ignored[:, :32] = 1
    batch = {"image": rng.normal(size=(1, 64, 64, 1)).astype("float32"), "maps": maps, "ignore": ignored}
    other = maps.copy()
    other[:, :32] = np.roll(other[:, :32], 1, axis=-1)
    first, second = ({k: float(v) for k, v in model(batch | {"maps": each}).items()} for each in (maps, other))
    assert first == second
    assert first != {name: float(value) for name, value in model({**batch, "ignore": 0 * ignored}).items()}
