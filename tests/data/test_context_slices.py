"""Neighboring slices as channels: order and edges by hand, conversion, augmentation, and what is refused."""

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from mrcnn.config import ModelConfig
from mrcnn.data import read_dataset
from mrcnn.data.problems import Problems
from mrcnn.data.readers import read_all
from mrcnn.data.sample import Sample, present_slice, read_with_context
from mrcnn.data.transforms.augment import augment
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.data.transforms.normalization import match_channels
from mrcnn.errors import InputError


@pytest.fixture
def slices(tmp_path):
    """A data set of patients p = 0 and 1 with 3 and 2 slices: channel c of slice k has the pixels 100p + 10k + c."""
    for patient, count in enumerate((3, 2)):
        folder = tmp_path / "set" / f"p{patient}"
        folder.mkdir(parents=True)
        for k in range(1, count + 1):
            picture = np.zeros((16, 16, 3), np.uint8) + np.uint8(100 * patient + 10 * k) + np.arange(3, dtype=np.uint8)
            mask = np.zeros((16, 16), np.uint8)
            mask[2:8, 2:8] = 255
            tifffile.imwrite(folder / f"p{patient}_{k}.tif", picture, photometric="rgb")
            tifffile.imwrite(folder / f"p{patient}_{k}_mask.tif", mask)
    return tmp_path / "set"


def pixel(image):
    assert (image == image[0, 0]).all()
    return image[0, 0].tolist()


def test_channels_are_those_of_the_previous_the_present_and_the_next_slice(slices):
    dataset = read_dataset(slices, "lgg")
    assert pixel(dataset.image(1)) == [20, 21, 22]
    assert pixel(dataset.image(1, 1)) == [10, 11, 12, 20, 21, 22, 30, 31, 32]
    # The edge slice is repeated, and patients do not mix.
    assert pixel(dataset.image(0, 1)) == [10, 11, 12, 10, 11, 12, 20, 21, 22]
    assert pixel(dataset.image(2, 2)) == [10, 11, 12, 20, 21, 22, 30, 31, 32, 30, 31, 32, 30, 31, 32]
    assert pixel(dataset.image(3, 1)) == [110, 111, 112, 110, 111, 112, 120, 121, 122]
    # A split, or fewer slices without instances, do not change the neighbors.
    sample = dataset.subset([1]).sample(0, 1)
    assert pixel(sample.image) == [10, 11, 12, 20, 21, 22, 30, 31, 32] and len(sample.masks) == 1
    assert pixel(sample.present().image) == [20, 21, 22] and sample.present().context_slices == 0
    assert sample.present().instances is sample.instances  # not decoded, which takes gigabytes for large images
    assert dataset.subset([1]).digest == read_dataset(slices, "lgg").subset([1]).digest


def test_a_slice_that_is_left_out_is_no_neighbor(slices):
    tifffile.imwrite(slices / "p0" / "p0_2_mask.tif", np.zeros((8, 8), np.uint8))
    dataset = read_all(slices, "lgg").without_invalid()
    assert pixel(dataset.image(0, 1)) == [10, 11, 12, 10, 11, 12, 30, 31, 32]
    # Pixels that cannot be decoded are found later.
    dataset.problems = Problems(slices)
    dataset.problems.add_skippable("cannot be decoded", dataset.records[1].path)
    assert pixel(dataset.without_invalid().image(0, 1)) == [10, 11, 12] * 3


def test_neighbors_in_a_volume_are_its_slices_with_content_or_not(write_nifti, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    voxels, labels = np.zeros((12, 10, 5), np.int16), np.zeros((12, 10, 5), np.uint8)
    voxels[1:11, 1:9, 1:4] = [10, 20, 30]
    labels[3:8, 3:8, 1:4] = 1
    write_nifti(tmp_path / "set" / "a.nii.gz", voxels)
    write_nifti(tmp_path / "set" / "a_seg.nii.gz", labels)
    # From 0 to 255, so that pixels are the voxels.
    dataset = read_dataset(tmp_path / "set", "volumes", window=[127.5, 255])
    assert [record.place.index for record in dataset.records] == [1, 2, 3]
    assert dataset.image(0, 1)[5, 5].tolist() == [0, 10, 20]
    assert dataset.image(2, 1)[5, 5].tolist() == [20, 30, 0]
    assert dataset.image(2, 2)[5, 5].tolist() == [10, 20, 30, 0, 0]


def test_gray_slices_among_color_slices_get_their_channels_and_sizes_must_agree():
    images = {0: np.full((4, 4, 1), 5, np.uint8), 1: np.full((4, 4, 3), [1, 2, 3], np.uint8), 2: np.zeros((4, 5, 3))}
    assert pixel(read_with_context(images.__getitem__, 0, 2, 1)) == [5, 5, 5, 5, 5, 5, 1, 2, 3]
    with pytest.raises(InputError, match=r"neighboring slice 2 is 5×4 pixels; expected 4×4"):
        read_with_context(images.__getitem__, 1, 3, 1)


def test_each_slice_is_converted_to_the_channels_of_the_model():
    gray = np.dstack([np.full((2, 2), value, np.uint8) for value in (10, 20, 30)])
    colored = np.repeat(gray, 3, axis=2)
    assert pixel(match_channels(colored, 9, 1)) == [10] * 3 + [20] * 3 + [30] * 3
    np.testing.assert_allclose(match_channels(colored, 3, 1)[0, 0], [10, 20, 30], rtol=1e-6)
    np.testing.assert_array_equal(match_channels(np.insert(colored, [3, 6, 9], 255, axis=2), 9, 1), colored)
    assert pixel(match_channels(gray[..., :1], 9, 1)) == [10] * 9
    # Three channels may be a slice alone, or three gray slices.
    for image in (gray, colored[..., :5]):
        with pytest.raises(InputError, match="expected 9: those of 3 slices, the present one in the middle"):
            match_channels(image, 9, 1)
    assert pixel(present_slice(colored, 1)) == [20, 20, 20]
    assert present_slice(gray[..., :1], 1).shape == (2, 2, 1)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_augmentation_is_the_same_for_all_slices(kind):
    rng = np.random.default_rng(0)
    image = (rng.random((40, 40, 3)) * [200, 150, 250]).astype(kind)
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:25, 12:30] = True
    strengths = {"flip_horizontal": 0.5, "rotate_degrees": 20, "scale": 0.2, "translate": 0.1, "elastic": 2,
                 "brightness": 0.1, "contrast": 0.3, "gamma": 0.3, "blur_sigma": 1, "noise": 0.05}  # fmt: skip
    for seed in range(3):
        sample = Sample(np.tile(image, 3), mask, np.ones(1, np.int32), "p", "s", context_slices=1)
        parts = np.split(augment(sample, Augmentation(**strengths), (seed, 0, 0)).image, 3, axis=2)
        assert not np.array_equal(parts[1], image)
        for part in (parts[0], parts[2]):
            np.testing.assert_array_equal(part, parts[1])


def test_intensities_change_alike_in_slices_of_other_ranges():
    bright = np.linspace(0, 100, 64, dtype=np.float32).reshape(8, 8, 1)
    image = np.dstack([bright / 4, bright, bright / 4])
    sample = Sample(image, np.zeros((0, 8, 8), bool), np.zeros(0, np.int32), "p", "s", context_slices=1)
    changed = augment(sample, Augmentation(gamma=0.5), (3, 0, 0)).image
    of_value = dict(zip(bright.ravel().round(3).tolist(), changed[..., 1].ravel().tolist(), strict=True))
    expected = [np.interp(value, list(of_value), list(of_value.values())) for value in (bright / 4).ravel()]
    np.testing.assert_allclose(changed[..., 0].ravel(), expected, atol=1.5)


def test_what_has_no_neighbors_is_refused(write_coco, coco):
    dataset = read_dataset(write_coco(coco))
    with pytest.raises(InputError, match=r"a_1\.png: is no slice of a volume; expected volumes or folders of numbered"):
        dataset.sample(0, 1)
    facts = {"class_names": ("a",), "image_size": 64}
    assert ModelConfig(**facts, channels=12, context_slices=1).channels == 12
    with pytest.raises(ValidationError, match=r"channels=3: expected a multiple of 5, the slices of context_slices=2"):
        ModelConfig(**facts, channels=3, context_slices=2)
    with pytest.raises(ValidationError, match="context_slices=1: expected 0 with normalisation=imagenet"):
        ModelConfig(**facts, channels=3, context_slices=1, normalisation="imagenet")
