"""Films and their negatives, told apart by the mean of other films."""

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.duplicates import SIDE, thumbnail, thumbnails_of
from mrcnn.data.film_polarity import mean_picture, negatives, negatives_within
from mrcnn.data.readers.problems import Problems


@pytest.fixture(scope="module")
def films():
    """(24, SIDE, SIDE) uint8: black corners, a bright middle, two dark lungs; each film somewhere else, and noisy."""
    rng, rows, columns = np.random.default_rng(0), *np.mgrid[:SIDE, :SIDE]
    made = []
    for _ in range(24):
        top, left = rng.integers(-2, 3, 2)
        body = 180 * (np.hypot(rows - 20 - top, columns - 16 - left) < 15)
        lungs = 120 * (np.hypot(rows - 15 - top, np.abs(columns - 16 - left) - 6) < 4)
        made.append(thumbnail((body - lungs + rng.integers(0, 60, (SIDE, SIDE)))[..., None].astype(np.uint8)))
    return np.stack(made)


def test_films_and_negatives_are_told_apart_by_the_mean_of_others(films):
    picture = mean_picture(films[:12])
    assert len(picture) == 64 and np.linalg.norm(picture) == pytest.approx(1, abs=1e-3)
    assert not negatives(films[12:], picture).any()
    assert negatives(255 - films[12:], picture).all()
    # The other way round where all that train are negatives.
    assert negatives(films[12:], mean_picture(255 - films[:12])).all()


@pytest.mark.parametrize("count", [0, 1, 5, 11])
def test_the_rarer_polarity_of_a_set_is_found(films, count):
    mixed = np.where(np.arange(24)[:, None, None] >= 24 - count, 255 - films, films)
    assert negatives_within(mixed).tolist() == list(range(24 - count, 24))
    assert (mean_picture(mixed) is None) == (count > 0)


def test_nothing_is_said_of_few_or_different_or_even_pictures(films):
    noise = np.random.default_rng(1).integers(0, 256, (40, SIDE, SIDE)).astype(np.uint8)
    for pictures in (films[:9], noise, np.zeros((20, SIDE, SIDE), np.uint8), films[:0]):
        assert mean_picture(pictures) is None and len(negatives_within(pictures)) == 0
    assert not negatives(np.zeros((1, SIDE, SIDE), np.uint8), mean_picture(films)).any()


def test_real_films(shared_data):
    dataset = read_dataset(shared_data / "lung").subset(range(60))
    films = thumbnails_of(dataset, None, Problems("films"))
    inverted = np.stack([thumbnail(np.iinfo(image.dtype).max - image) for image in map(dataset.image, range(60))])
    picture = mean_picture(films[:30])
    assert not negatives(films[30:], picture).any() and negatives(inverted[30:], picture).all()
    assert len(negatives_within(films)) == 0
    assert negatives_within(np.concatenate([films[:50], inverted[50:]])).tolist() == list(range(50, 60))
