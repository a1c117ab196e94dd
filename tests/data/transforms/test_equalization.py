"""Equalized gray levels against what equalization means."""

import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data.transforms.encoding import prepare_image
from mrcnn.data.transforms.normalization import equalize

METHODS = ("histogram", "clahe")


@pytest.fixture(scope="module")
def dark():
    """A dim picture whose levels bunch at the dark end."""
    rng = np.random.default_rng(0)
    return (40 * rng.random((96, 128, 1)) ** 3).astype(np.uint8)


def test_none_is_the_image_itself(dark):
    assert equalize(dark, "none") is dark


def test_a_histogram_level_becomes_its_rank():
    fine = np.random.default_rng(1).normal(size=(96, 128, 1)).astype(np.float32)
    rank = 255 * (np.argsort(np.argsort(fine.ravel())) + 0.5) / fine.size
    # scikit-image counts in 256 bins between the darkest and the brightest pixel.
    np.testing.assert_allclose(equalize(fine, "histogram").ravel(), rank, atol=2.5)


@pytest.mark.parametrize("method", METHODS)
def test_order_within_a_tile_is_kept_and_contrast_grows(dark, method):
    found = equalize(dark, method)
    assert (found.dtype, found.shape) == (np.float32, dark.shape)
    assert found.min() >= 0 and found.max() <= 255
    assert found.std() > dark.std()
    assert np.corrcoef(found.ravel(), dark.ravel())[0, 1] > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_gain_and_offset_do_not_matter(dark, method):
    np.testing.assert_allclose(equalize(dark * 7.0 - 300, method), equalize(dark, method), atol=0.5)


@pytest.mark.parametrize("method", METHODS)
def test_channels_are_equalized_each_by_itself(dark, method):
    two = np.concatenate([dark, 200 - dark], axis=2)
    np.testing.assert_array_equal(equalize(two, method)[..., :1], equalize(dark, method))
    gray = equalize(np.broadcast_to(dark, (*dark.shape[:2], 3)), method)
    assert (gray == gray[..., :1]).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_value_stays(method):
    np.testing.assert_array_equal(equalize(np.full((9, 7, 1), 80, np.uint8), method), 80)


@pytest.mark.parametrize(
    "settings",
    [{"channels": 1}, {"normalisation": "imagenet"}, {"conventions": "matterport", "normalisation": "imagenet",
     "norm": "batch"}],
)  # fmt: skip
def test_the_network_sees_the_equalized_image(dark, settings):
    plain, equalized = (
        prepare_image(dark, ModelConfig(class_names=("a",), image_size=128, equalise=method, **settings))[0]
        for method in ("none", "histogram")
    )
    assert plain.shape == equalized.shape
    ranks = [np.argsort(np.argsort(each[20:60, 20:60, 0].ravel(), kind="stable")) for each in (plain, equalized)]
    assert np.corrcoef(*ranks)[0, 1] > 0.95
    assert not np.allclose(plain, equalized)
