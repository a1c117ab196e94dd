"""Augmentation against NumPy's own flips and against images in which every instance shows itself by its gray."""

import random
from dataclasses import replace

import imgaug
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from skimage import draw

from mrcnn.data import Sample
from mrcnn.data.transforms.augment import augment, pack_label_planes, unpack_label_planes
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

ALL = Augmentation(
    flip_horizontal=0.5,
    flip_vertical=0.5,
    rotate_degrees=20,
    scale=0.2,
    translate=0.1,
    shear_degrees=8,
    elastic=1,
    brightness=0.1,
    contrast=0.2,
    gamma=0.2,
    blur_sigma=1,
    noise=0.02,
)
WARPS = Augmentation(
    flip_horizontal=0.5, flip_vertical=0.5, rotate_degrees=30, scale=0.3, translate=0.3, shear_degrees=8
)


def sample(channels=3, dtype=np.uint8, count=4):
    """Discs of gray 60, 110, 160 … on black; disc i is of class i + 1."""
    image = np.zeros((90, 120, channels), dtype)
    masks = np.zeros((count, 90, 120), bool)
    for index, mask in enumerate(masks):
        mask[draw.disk((25 + 40 * (index // 2), 35 + 50 * (index % 2)), 15)] = True
        image[mask] = 60 + 50 * index
    return Sample(image, masks, np.arange(1, count + 1, dtype=np.int32), "p", "x.png")


def assert_same(one, other):
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.masks, other.masks)
    np.testing.assert_array_equal(one.class_ids, other.class_ids)


def test_no_strength_is_no_change():
    given = sample()
    assert_same(augment(given, Augmentation(), (0, 0, 0)), sample())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_flips_are_numpys(name, axis, dtype):
    given = sample(dtype=dtype)
    flipped = augment(given, Augmentation(**{name: 1}), (1, 2, 3))
    np.testing.assert_allclose(flipped.image, np.flip(given.image, axis), rtol=1e-5)
    np.testing.assert_array_equal(flipped.masks, np.flip(given.masks, axis + 1))
    assert flipped.class_ids.tolist() == given.class_ids.tolist()
    sometimes = [augment(given, Augmentation(**{name: 0.5}), (0, 0, index)).masks for index in range(40)]
    assert 8 <= sum(np.array_equal(masks, given.masks) for masks in sometimes) <= 32


@pytest.mark.parametrize("seed", range(12))
def test_masks_and_classes_go_with_what_they_mark(seed):
    changed = augment(sample(), WARPS, (0, 1, seed))
    assert changed.masks.any(axis=(1, 2)).all()
    for mask, class_id in zip(changed.masks, changed.class_ids, strict=True):
        gray = np.median(changed.image[mask])
        assert gray == 60 + 50 * (class_id - 1)
        marked = np.abs(changed.image[..., 0].astype(int) - gray) <= 25
        # Outlines are blends of gray and black, so allow those of the other discs there.
        assert (mask & marked).sum() >= 0.9 * mask.sum()


@pytest.mark.parametrize("name", ["rotate_degrees", "scale", "translate", "shear_degrees", "elastic"])
def test_each_warp_moves_image_and_mask_alike(name):
    disc = sample(count=1)
    strongest = {"rotate_degrees": 45, "scale": 0.5, "translate": 0.2, "shear_degrees": 30, "elastic": 3}[name]
    moved = [augment(disc, Augmentation(**{name: strongest}), (5, 0, index)) for index in range(8)]
    for each in moved:
        shown = each.image[..., 0] >= 30
        assert (shown & each.masks[0]).sum() >= 0.93 * (shown | each.masks[0]).sum()
    assert len({each.masks.tobytes() for each in moved}) == 8


@pytest.mark.parametrize("name", ["brightness", "contrast", "gamma", "blur_sigma", "noise"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_recoloring_leaves_the_masks(name, dtype):
    given = sample(dtype=dtype)
    strength = Augmentation(**{name: 3 if name == "blur_sigma" else 0.4})
    changed = [augment(given, strength, (0, 0, index)) for index in range(3)]
    assert len({each.image.tobytes() for each in changed}) == 3
    for each in changed:
        np.testing.assert_array_equal(each.masks, given.masks)
        assert each.image.dtype == dtype
        assert not np.array_equal(each.image, given.image)
        assert each.image.min() >= given.image.min() and each.image.max() <= 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_any_channels_and_no_side_effect(channels, dtype):
    given = sample(channels, dtype)
    changed = augment(given, ALL, (1, 2, 3))
    assert changed.image.shape == given.image.shape
    assert changed.image.dtype == dtype
    assert changed.masks.dtype == bool
    assert_same(given, sample(channels, dtype))


def test_floats_keep_their_units():
    given = sample(dtype=np.float32)
    shifted = replace(given, image=given.image * 40 - 3000)
    strength = ALL.model_copy(update={"noise": 0})
    one, other = augment(given, strength, (3, 1, 4)), augment(shifted, strength, (3, 1, 4))
    np.testing.assert_allclose(other.image, one.image * 40 - 3000, atol=1.0)
    np.testing.assert_array_equal(one.masks, other.masks)


def test_channels_of_floats_are_modalities_of_their_own_range():
    given = sample(channels=2, dtype=np.float32)
    image = given.image * np.float32([1, 40]) - np.float32([0, 3000])
    changed = augment(replace(given, image=image), WARPS, (3, 1, 4)).image
    alone = augment(given, WARPS, (3, 1, 4)).image
    np.testing.assert_allclose(changed, alone * [1, 40] - [0, 3000], atol=1.0)
    assert changed.min(axis=(0, 1)).tolist() == [0, -3000]  # what comes from outside too


@pytest.mark.parametrize("strength", [{"gamma": 0.4}, {"contrast": 0.4}, {"brightness": 0.3}, {"blur_sigma": 2}])
def test_bytes_and_floats_change_alike(strength):
    image = np.tile(np.arange(256, dtype=np.uint8), (8, 1))[..., None]
    given = Sample(image, np.zeros((0, 8, 256), bool), np.zeros(0, np.int32), "p", "x")
    for seed in range(5):
        as_bytes = augment(given, Augmentation(**strength), (0, 0, seed)).image.astype(float)
        as_floats = augment(replace(given, image=image.astype(np.float32)), Augmentation(**strength), (0, 0, seed))
        np.testing.assert_allclose(as_bytes, as_floats.image, atol=2)


def test_no_instance_and_one_value():
    empty = sample(count=0)
    changed = augment(empty, ALL, (0, 0, 0))
    assert changed.masks.shape == (0, 90, 120)
    assert changed.class_ids.shape == (0,)
    flat = replace(sample(count=1), image=np.full((90, 120, 1), 7, np.float32))
    assert np.isfinite(augment(flat, ALL, (0, 0, 0)).image).all()


def test_the_seed_decides_alone():
    first = augment(sample(), ALL, (1, 2, 3))
    np.random.seed(99)
    random.seed(99)
    imgaug.seed(99)
    augment(sample(), ALL, (7, 7, 7))
    assert_same(augment(sample(), ALL, (1, 2, 3)), first)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(augment(sample(), ALL, other).image, first.image)


def test_one_change_does_not_steer_another():
    plain = augment(sample(), WARPS, (4, 5, 6))
    noisy = augment(sample(), WARPS.model_copy(update={"noise": 0.1}), (4, 5, 6))
    np.testing.assert_array_equal(plain.masks, noisy.masks)


def test_what_leaves_the_image_is_dropped():
    masks = np.zeros((2, 100, 100), bool)
    masks[0, 48:52, 48:52] = True  # stays under any shift
    masks[1, :2] = True  # leaves whenever the image moves up by two pixels
    given = Sample(np.zeros((100, 100, 1), np.uint8), masks, np.array([5, 6], np.int32), "p", "x")
    counts = set()
    for seed in range(20):
        changed = augment(given, Augmentation(translate=0.1), (0, 0, seed))
        assert changed.class_ids.tolist() in ([5], [5, 6])
        assert len(changed.masks) == len(changed.class_ids)
        counts.add(len(changed.masks))
        if len(changed.masks) == 2:
            assert changed.masks[1].sum() >= 0.1 * 200
    assert counts == {1, 2}


def test_overlapping_instances_survive():
    masks = np.zeros((3, 60, 60), bool)
    masks[0, 10:50, 10:50] = masks[1, 20:30, 20:30] = masks[2, 15:45, 5:40] = True
    given = Sample(np.zeros((60, 60, 1), np.uint8), masks, np.array([1, 2, 3], np.int32), "p", "x")
    changed = augment(given, Augmentation(rotate_degrees=10), (0, 0, 1))
    assert changed.class_ids.tolist() == [1, 2, 3]
    np.testing.assert_allclose(changed.masks.sum(axis=(1, 2)), masks.sum(axis=(1, 2)), rtol=0.05)
    assert (changed.masks[1] & ~changed.masks[0]).sum() == 0  # the second lies within the first


@given(arrays(bool, st.tuples(st.integers(0, 6), st.integers(1, 8), st.integers(1, 8))))
def test_label_planes_hold_all(masks):
    planes = pack_label_planes(InstanceMasks.from_array(masks))
    assert planes.shape[2] <= len(masks)
    again = unpack_label_planes(planes, len(masks))
    np.testing.assert_array_equal(again.to_array(), masks)
    assert again.areas.tolist() == masks.sum(axis=(1, 2)).tolist()


def test_apart_instances_share_a_plane():
    masks = np.zeros((100, 20, 20), bool)
    for index, mask in enumerate(masks):
        mask[2 * (index // 10), 2 * (index % 10)] = True
    assert pack_label_planes(InstanceMasks.from_array(masks)).shape == (20, 20, 1)


@pytest.mark.parametrize("wrong", [{"flip_horizontal": 1.5}, {"rotate_degrees": -1}, {"rotation": 3}, {"scale": 0.9}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValidationError):
        Augmentation(**wrong)


SIDES = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, rotate_degrees=5, flip_swaps=[["left", "right"]])
NAMES = ("left", "heart", "right")


def test_classes_change_places_in_a_left_right_mirror_image_alone():
    given = sample(count=3)  # left and heart side by side above, right below
    ids = SIDES.mirrored_ids(NAMES)
    assert ids.tolist() == [0, 3, 2, 1]
    seen = set()
    for index in range(24):
        changed = augment(given, SIDES, (0, 0, index), ids)
        middle = [np.nonzero(mask)[1].mean() for mask in changed.masks]
        mirrored = bool(middle[0] > middle[1])
        assert changed.class_ids.tolist() == ([3, 2, 1] if mirrored else [1, 2, 3])
        seen.add((mirrored, bool(np.nonzero(changed.masks[2])[0].mean() < 45)))
    assert seen == {(True, True), (True, False), (False, True), (False, False)}
    without = augment(given, SIDES.model_copy(update={"flip_horizontal": 0}), (0, 0, 0), ids)
    assert without.class_ids.tolist() == [1, 2, 3]


def test_swapping_classes_changes_nothing_else():
    given = sample(count=3)
    plain = SIDES.model_copy(update={"flip_swaps": ()})
    for index in range(6):
        one = augment(given, SIDES, (0, 0, index), SIDES.mirrored_ids(NAMES))
        other = augment(given, plain, (0, 0, index), plain.mirrored_ids(NAMES))
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)
        assert other.class_ids.tolist() == [1, 2, 3]


def test_swaps_of_unknown_or_repeated_classes():
    with pytest.raises(InputError, match=r"augment\.flip_swaps: no class 'left'; expected iso, hypo"):
        SIDES.mirrored_ids(("iso", "hypo"))
    with pytest.raises(ValidationError, match="each class once"):
        Augmentation(flip_swaps=[["left", "right"], ["left", "heart"]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_inversion_exchanges_the_darkest_and_the_brightest(dtype):
    image = np.array([[[3], [9]], [[5], [200]]], dtype)
    given = Sample(image, np.zeros((0, 2, 2), bool), np.zeros(0, np.int32), "p", "x.png")
    inverted = augment(given, Augmentation(invert=1), (0, 0, 0)).image
    # Around the middle of 0 … 255 for 8 bits, of the image's own range 3 … 200 for others.
    total = 255 if dtype == np.uint8 else 203
    np.testing.assert_allclose(inverted, total - image.astype(np.float64), rtol=1e-6)
    assert augment(given, Augmentation(invert=0), (0, 0, 0)) is given
