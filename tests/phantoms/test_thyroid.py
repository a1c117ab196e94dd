from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from mrcnn.phantoms import thyroid
from mrcnn.phantoms.thyroid import CLASS_NAMES, HYPO, ISO, draw_nodules


@pytest.fixture(scope="module")
def samples():
    return list(thyroid.make_images(40, seed=11))


def same(a, b):
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.masks, b.masks)
        and np.array_equal(a.class_ids, b.class_ids)
        and (a.patient_id, a.source, a.spacing_mm) == (b.patient_id, b.source, b.spacing_mm)
    )


def test_the_seed_decides_everything_and_a_longer_series_begins_with_the_shorter(samples):
    again = list(thyroid.make_images(7, seed=11))
    assert all(same(a, b) for a, b in zip(again, samples[:7], strict=True))
    other = next(thyroid.make_images(1, seed=12))
    assert other.image.shape != samples[0].image.shape or not np.array_equal(other.image, samples[0].image)


def test_images_are_gray_of_plausible_size_and_spacing(samples):
    for sample in samples:
        height, width, channels = sample.image.shape
        assert sample.image.dtype == np.uint8 and channels == 1
        assert 240 <= height <= 360 and 300 <= width <= 560
        assert sample.spacing_mm[0] == sample.spacing_mm[1] and 0.06 <= sample.spacing_mm[0] <= 0.15
        assert 27 <= height * sample.spacing_mm[0] <= 36.5
        assert 20 < sample.image.mean() < 150 and sample.image.std() > 15


def test_a_patient_has_one_to_four_images_of_one_size(samples):
    sizes = {}
    for sample in samples:
        sizes.setdefault(sample.patient_id, []).append((sample.image.shape, sample.spacing_mm))
    assert all(len(found) <= 4 and len(set(found)) == 1 for found in sizes.values())
    assert any(len(found) > 1 for found in sizes.values())
    assert len({sample.source for sample in samples}) == len(samples)


def test_nodules_are_whole_apart_and_in_the_picture(samples):
    for sample in samples:
        assert sample.masks.sum(0).max(initial=0) <= 1
        assert not (sample.masks[:, [0, -1]].any() or sample.masks[:, :, [0, -1]].any())
        for mask in sample.masks:
            assert label(mask)[1] == 1
            assert label(~mask)[1] == 1  # no hole


def test_nodules_measure_six_to_forty_five_percent_of_the_width(samples):
    shares = []
    for sample in samples:
        for mask in sample.masks:
            rows, columns = np.nonzero(mask)
            shares.append((max(np.ptp(rows), np.ptp(columns)) + 1) / mask.shape[1])
    assert min(shares) >= 0.045 and max(shares) <= 0.5
    assert np.quantile(shares, 0.9) > 2 * np.quantile(shares, 0.1)


def contrast(sample, mask):
    """Median gray of a nodule's core minus that of the tissue around it."""
    others = binary_dilation(sample.masks.any(0), iterations=2)
    ring = binary_dilation(mask, iterations=10) & ~others
    core = binary_erosion(mask, iterations=max(2, round(0.12 * np.sqrt(mask.sum()))))
    gray = sample.image[..., 0].astype(float)
    return np.median(gray[core]) - np.median(gray[ring])


def test_hypoechoic_is_darker_than_its_surroundings_and_isoechoic_is_not(samples):
    found = {ISO: [], HYPO: []}
    for sample in samples:
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            found[int(class_id)].append(contrast(sample, mask))
    assert np.quantile(found[HYPO], 0.9) < -15 and np.median(found[HYPO]) < -30
    assert abs(np.median(found[ISO])) < 15
    # The classes lie apart: one threshold tells nearly all.
    wrong = sum(value < -15 for value in found[ISO]) + sum(value >= -15 for value in found[HYPO])
    assert wrong <= 0.12 * (len(found[ISO]) + len(found[HYPO]))


def test_isoechoic_nodules_have_a_dark_halo(samples):
    deeper = []
    for sample in samples:
        for mask in sample.masks[sample.class_ids == ISO]:
            gray = sample.image[..., 0].astype(float)
            rim = binary_erosion(mask) & ~binary_erosion(mask, iterations=4)
            ring = binary_dilation(mask, iterations=8) & ~binary_dilation(mask, iterations=3)
            deeper.append(np.median(gray[ring]) - np.median(gray[rim]))
    assert np.mean(np.array(deeper) > 10) > 0.9


def test_numbers_and_classes_are_drawn_with_the_stated_shares():
    rng = np.random.default_rng(0)
    drawn = [draw_nodules(rng, 30, 40) for _ in range(4000)]
    shares = np.bincount([len(nodules) for nodules in drawn], minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, (0.12, 0.46, 0.28, 0.14), atol=0.03)  # over three standard errors
    classes = [nodule.class_id for nodules in drawn for nodule in nodules]
    assert np.mean(np.array(classes) == ISO) == pytest.approx(0.5, abs=0.03)
    assert CLASS_NAMES == ("iso", "hypo")


def test_most_drawn_nodules_find_a_place(samples):
    numbers = [len(sample.masks) for sample in samples]
    assert 1 <= numbers.count(0) <= 13  # 12 % of 40 is 5; 13 is four standard deviations more
    assert max(numbers) == 3 and np.mean(numbers) > 1.1


@pytest.mark.parametrize("size", [(16, 20), (64, 64), (240, 560), (700, 500)])
def test_any_size_can_be_asked_for(size):
    rng = np.random.default_rng(5)
    patient = replace(thyroid.draw_patient(rng), height=size[0], width=size[1])
    sample = thyroid.make_image(rng, patient=patient)
    assert sample.image.shape == (*size, 1)
    assert sample.masks.shape == (len(sample.class_ids), *size)
