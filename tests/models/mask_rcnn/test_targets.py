import numpy as np
from keras import ops

from mrcnn.geometry.anchors import anchor_grid
from mrcnn.models.mask_rcnn.targets import anchor_targets, region_targets


def noise(rng, *shape):
    return rng.random(shape).astype(np.float32)


def test_anchor_sample_has_positives_for_every_instance_and_is_full(tiny, blob_batch):
    config = tiny()
    batch = blob_batch(config, [[(4, 4, 20, 24, 1), (40, 40, 43, 43, 2)], []])
    grid = anchor_grid(config)
    target = anchor_targets(grid, batch["boxes"], batch["valid"], noise(np.random.default_rng(0), 2, len(grid)), config)
    positive, used = ops.convert_to_numpy(target.positive), ops.convert_to_numpy(target.used)
    index = ops.convert_to_numpy(target.index)
    assert used.sum(axis=1).tolist() == [32, 32]  # filled up with negatives, also without instances
    assert positive[1].sum() == 0
    # The tiny instance overlaps no anchor by 0.7, and yet has one.
    chosen = grid[index[0][positive[0] > 0]]
    centers = (chosen[:, :2] + chosen[:, 2:]) / 2
    assert (np.abs(centers - 41.5).max(axis=1) < 4).any()
    assert (np.abs(centers - [12, 14]).max(axis=1) < 4).any()


def test_at_most_half_of_the_anchors_are_positive(tiny, blob_batch):
    config = tiny(rpn_positive_iou=0.2, rpn_negative_iou=0.1)
    batch = blob_batch(config, [[(0, 0, 60, 60, 1)]])
    grid = anchor_grid(config)
    target = anchor_targets(grid, batch["boxes"], batch["valid"], noise(np.random.default_rng(0), 1, len(grid)), config)
    assert ops.convert_to_numpy(target.positive).sum() == 16
    assert ops.convert_to_numpy(target.used).sum() == 32


def test_regions_by_hand(tiny, blob_batch):
    config = tiny(max_instances=2)
    batch = blob_batch(config, [[(10, 10, 30, 30, 2)]])
    proposals = np.zeros((1, 6, 4), np.float32)
    proposals[0, :4] = [[10, 10, 30, 26], [40, 40, 60, 60], [0, 0, 5, 5], [12, 10, 32, 30]]
    valid = np.array([[True, True, True, False, False, False]])
    target = region_targets(proposals, valid, batch, noise(np.random.default_rng(0), 1, 8), config)
    positive = ops.convert_to_numpy(target.positive)[0] > 0
    boxes = ops.convert_to_numpy(target.boxes)[0]
    classes = ops.convert_to_numpy(target.class_ids)[0]
    # Positives: the first proposal (IoU 0.8) and the true box itself; the fourth is not valid.
    assert sorted(boxes[:4][positive].tolist()) == [[10, 10, 30, 26], [10, 10, 30, 30]]
    assert classes.tolist() == [2 if i < 4 and positive[i] else 0 for i in range(len(classes))]
    used = ops.convert_to_numpy(target.used)[0]
    assert used[4:].sum() == 2  # the two other valid proposals
    slot = next(i for i in range(4) if positive[i] and boxes[i, 3] == 26)
    # From 20 × 16 centered at (20, 18) to 20 × 20 centered at (20, 20).
    np.testing.assert_allclose(
        ops.convert_to_numpy(target.deltas)[0, slot], [0, 10 * 2 / 16, 0, 5 * np.log(20 / 16)], atol=1e-4
    )
    # The region ends above the disc's lower end: its last row crosses the disc where it is 2·√(1 − 0.57²) wide.
    mask = ops.convert_to_numpy(target.masks)[0, slot]
    assert mask.shape == (28, 28)
    assert abs(mask[-1].sum() - 28 * np.sqrt(1 - (2 * 15.7 / 20 - 1) ** 2)) <= 2
    assert abs(mask[0].sum() - mask[-1].sum()) > 8


def test_never_more_positives_than_a_quarter(tiny, blob_batch):
    config = tiny()
    batch = blob_batch(config, [[(10, 10, 30, 30, 1)]])
    proposals = np.tile(np.array([10, 10, 30, 30], np.float32), (1, 60, 1))
    target = region_targets(proposals, np.ones((1, 60), bool), batch, noise(np.random.default_rng(0), 1, 64), config)
    assert ops.convert_to_numpy(target.positive).tolist() == [[1, 1, 1, 1]]
    assert ops.convert_to_numpy(target.masks).shape == (1, 4, 28, 28)
    assert ops.convert_to_numpy(target.used).sum() == 4


def test_without_instances_or_proposals_nothing_is_used(tiny, blob_batch):
    config = tiny()
    batch = blob_batch(config, [[]])
    target = region_targets(
        np.zeros((1, 60, 4), np.float32), np.zeros((1, 60), bool), batch, noise(np.random.default_rng(0), 1, 64), config
    )
    assert ops.convert_to_numpy(target.used).sum() == 0
    assert all(np.isfinite(ops.convert_to_numpy(value)).all() for value in target)
