import numpy as np
import pytest
from keras import ops

from mrcnn.geometry.masks import crop_masks, paste_crop
from mrcnn.instance_masks import InstanceMasks


def crop(mask, box, region, size):
    arrays = [np.asarray(a, np.float32)[None, None] for a in (mask, box, region)]
    return ops.convert_to_numpy(crop_masks(*arrays, size))[0, 0]


def paste_mask(mask, box, height, width):
    return InstanceMasks(height, width, [paste_crop(mask, box, height, width)]).mask(0)


def test_region_equal_to_the_box_returns_the_mask():
    mask = np.kron([[1, 0], [0, 1]], np.ones((4, 4)))
    np.testing.assert_array_equal(crop(mask, [10, 20, 26, 36], [10, 20, 26, 36], 8), mask)


def test_region_twice_as_wide_sees_nothing_outside_the_box():
    region = crop(np.ones((8, 8)), [10, 10, 20, 20], [0, 10, 20, 20], 8)
    np.testing.assert_array_equal(region, np.concatenate([np.zeros((8, 4)), np.ones((8, 4))], axis=1))


def test_region_that_misses_the_box_is_empty():
    assert crop(np.ones((8, 8)), [10, 10, 20, 20], [40, 40, 60, 60], 4).sum() == 0


def test_paste_a_full_mask_fills_the_box():
    pasted = paste_mask(np.ones((28, 28)), np.array([2, 3, 6, 5]), 8, 9)
    expected = np.zeros((8, 9), bool)
    expected[3:5, 2:6] = True
    np.testing.assert_array_equal(pasted, expected)


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ([0, 0, 9, 8], 72),
        ([-4, -4, 2, 2], 4),  # over the border
        ([3.6, 3.6, 3.9, 3.9], 1),  # thinner than a pixel
        ([8.4, 7.4, 9, 8], 1),  # the last pixel
        ([2.4, 1.4, 4.6, 3.6], 9),  # the centers of columns 2 … 4 and rows 1 … 3 lie inside
        ([2.6, 1.6, 4.4, 3.4], 1),
    ],
)
def test_pixels_with_centers_in_the_box(box, pixels):
    assert paste_mask(np.ones((28, 28)), np.array(box), 8, 9).sum() == pixels


def test_disc_survives_crop_and_paste():
    """A mask resampled to the target resolution and back differs along its outline only."""
    y, x = np.mgrid[:100, :100]
    disc = (y - 50) ** 2 + (x - 48) ** 2 < 30**2
    box = np.array([18, 21, 78, 80], np.float32)
    box[:2] = np.argwhere(disc).min(0)[::-1]
    box[2:] = np.argwhere(disc).max(0)[::-1] + 1
    inner = disc[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].astype(float)
    target = crop(inner, box, box, 28)
    pasted = paste_mask(target, box, 100, 100)
    assert (pasted & disc).sum() / (pasted | disc).sum() > 0.96
