import json

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from mrcnn.data import read_dataset
from mrcnn.phantoms import brain, write_dataset


@pytest.fixture(scope="module")
def samples():
    return list(brain.make_images(80, seed=11))


def test_the_seed_decides_everything_and_a_longer_series_begins_with_the_shorter(samples):
    for made, known in zip(brain.make_images(7, seed=11), samples[:7], strict=True):
        np.testing.assert_array_equal(made.image, known.image)
        np.testing.assert_array_equal(made.masks, known.masks)
        assert (made.patient_id, made.source, made.spacing_mm) == (known.patient_id, known.source, known.spacing_mm)
    other = next(brain.make_images(1, seed=12))
    assert other.image.shape != samples[0].image.shape or not np.array_equal(other.image, samples[0].image)


def test_slices_are_gray_squares_that_hold_a_head_of_plausible_size(samples):
    for sample in samples:
        height, width, channels = sample.image.shape
        assert sample.image.dtype == np.uint8 and channels == 1 and height == width and height in (224, 256, 288)
        head = binary_erosion(sample.image[..., 0] > 40, iterations=1)
        rows, columns = np.flatnonzero(head.any(1)), np.flatnonzero(head.any(0))
        assert rows[0] > 0 and columns[0] > 0 and rows[-1] < height - 1 and columns[-1] < width - 1
        long, wide = (np.ptp(found) * sample.spacing_mm[0] for found in (rows, columns))
        assert 120 < long < 215 and 95 < wide < 180 and long > wide
        assert np.median(sample.image[:10, :10]) < 20  # air


def test_a_patient_has_two_to_five_slices_with_and_without_tumors(samples):
    slices, sizes = {}, {}
    for sample in samples[:-5]:
        slices.setdefault(sample.patient_id, []).append(len(sample.masks))
        sizes.setdefault(sample.patient_id, set()).add((sample.image.shape, sample.spacing_mm))
    assert all(1 <= len(found) <= 5 for found in slices.values()) and all(len(found) == 1 for found in sizes.values())
    assert len({sample.source for sample in samples}) == len(samples)
    numbers = [len(sample.masks) for sample in samples]
    assert 0.08 < numbers.count(0) / len(numbers) < 0.5 and max(numbers) >= 2


def test_tumors_are_whole_apart_and_within_the_brain(samples):
    for sample in samples:
        assert sample.masks.sum(0).max(initial=0) <= 1
        for mask in sample.masks:
            assert label(mask)[1] == 1 and label(~mask)[1] == 1
            assert not (mask[[0, -1]].any() or mask[:, [0, -1]].any())
            assert mask.sum() * sample.spacing_mm[0] ** 2 > 10


def test_tumors_take_up_contrast_agent(samples):
    brighter = []
    for sample in samples:
        gray = sample.image[..., 0].astype(float)
        for mask in sample.masks:
            rim = mask & ~binary_erosion(mask, iterations=3)
            ring = binary_dilation(mask, iterations=8) & ~binary_dilation(sample.masks.any(0), iterations=3)
            brighter.append(np.quantile(gray[rim], 0.7) - np.median(gray[ring]))
    assert len(brighter) > 50 and np.mean(np.array(brighter) > 25) > 0.95


def test_the_reader_of_via_files_gets_back_what_was_made(tmp_path):
    folder = write_dataset("brain_tumor", tmp_path / "set", images=14, seed=4)
    dataset = read_dataset(folder, patient_pattern=r"---(\d+)-")
    assert dataset.class_names == ("tumor",) and len(dataset) == 14 and not dataset.warnings
    made = {sample.source: sample for sample in brain.make_images(14, 4)}
    for found in dataset:
        expected = made[found.source.split("/")[1]]
        np.testing.assert_array_equal(found.image, expected.image)
        assert found.patient_id == expected.patient_id
        for a, b in zip(found.masks, expected.masks, strict=True):
            assert (a & b).sum() / (a | b).sum() >= 0.93
    content = json.loads((folder / "train" / "via_region_data.json").read_text())
    assert all("phantoms" in entry["file_attributes"]["description"] for entry in content.values())
    assert sum(record.file_name.startswith("validation/") for record in dataset.records) == 2
    before = (folder / "train" / "via_region_data.json").stat().st_mtime_ns
    write_dataset("brain_tumor", folder, images=14, seed=4)
    assert (folder / "train" / "via_region_data.json").stat().st_mtime_ns == before
    (folder / "validation" / "via_region_data.json").unlink()
    assert len(read_dataset(write_dataset("brain_tumor", folder, images=14, seed=4))) == 14
