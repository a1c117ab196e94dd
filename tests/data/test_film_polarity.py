"""Films and their negatives, told apart by the mean of other films."""

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.duplicates import SIDE, make_thumbnails, thumbnail
from mrcnn.data.film_polarity import find_negatives, find_rarer_polarity, mean_film
from mrcnn.data.problems import Problems


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
    picture = mean_film(films[:12])
    assert len(picture) == 64 and np.linalg.norm(picture) == pytest.approx(1, abs=1e-3)
    assert not find_negatives(films[12:], picture).any()
    assert find_negatives(255 - films[12:], picture).all()
    # The other way round where all that train are negatives.
    assert find_negatives(films[12:], mean_film(255 - films[:12])).all()


@pytest.mark.parametrize("count", [0, 1, 5, 11])
def test_the_rarer_polarity_of_a_set_is_found(films, count):
    mixed = np.where(np.arange(24)[:, None, None] >= 24 - count, 255 - films, films)
    assert find_rarer_polarity(mixed).tolist() == list(range(24 - count, 24))
    assert (mean_film(mixed) is None) == (count > 0)


def test_nothing_is_said_of_few_or_different_or_even_pictures(films):
    noise = np.random.default_rng(1).integers(0, 256, (40, SIDE, SIDE)).astype(np.uint8)
    for pictures in (films[:9], noise, np.zeros((20, SIDE, SIDE), np.uint8), films[:0]):
        assert mean_film(pictures) is None and len(find_rarer_polarity(pictures)) == 0
    assert not find_negatives(np.zeros((1, SIDE, SIDE), np.uint8), mean_film(films)).any()


def test_real_films(shared_data):
    dataset = read_dataset(shared_data / "lung").subset(range(60))
    films = make_thumbnails(dataset, None, Problems("films"))
    inverted = np.stack([thumbnail(np.iinfo(image.dtype).max - image) for image in map(dataset.image, range(60))])
    picture = mean_film(films[:30])
    assert not find_negatives(films[30:], picture).any() and find_negatives(inverted[30:], picture).all()
    assert len(find_rarer_polarity(films)) == 0
    assert find_rarer_polarity(np.concatenate([films[:50], inverted[50:]])).tolist() == list(range(50, 60))
