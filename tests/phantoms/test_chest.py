"""Chest phantoms: the same from the same seed, lungs where they belong, and a film that shows them."""

import csv

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mrcnn.data import read_dataset
from mrcnn.phantoms import write_dataset, write_films
from mrcnn.phantoms.chest import CLASS_NAMES, LEFT, RIGHT, make_images


@pytest.fixture(scope="module")
def films():
    return list(make_images(28, 7))


def test_the_same_seed_gives_the_same_films_and_a_longer_series_begins_with_it(films):
    for one, other in zip(films, make_images(4, 7), strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.masks, other.masks)
    assert not np.array_equal(films[0].image, next(make_images(1, 8)).image)


def test_lungs_lie_on_their_sides_in_one_piece_each(films):
    for film in films:
        assert len(set(film.class_ids.tolist())) == len(film.class_ids)
        assert not film.masks.all(axis=0).any() or len(film.masks) == 1
        for mask, class_id in zip(film.masks, film.class_ids, strict=True):
            assert ndimage.label(mask)[1] == 1
            assert 0.04 < mask.mean() < 0.25
            middle = np.nonzero(mask)[1].mean() / mask.shape[1]
            assert (middle > 0.5) == (class_id == LEFT)
        assert film.image.dtype == np.uint8 and film.image.std() > 30


def test_some_patients_have_one_opaque_lung_and_it_has_no_mask(films):
    seen = [tuple(sorted(film.class_ids.tolist())) for film in films]
    assert {(LEFT, RIGHT)} < set(seen)
    assert 0.02 < np.mean([len(each) == 1 for each in seen]) < 0.4


def test_a_lung_is_darker_than_what_surrounds_it(films):
    for film in films:
        for mask in film.masks:
            around = ndimage.binary_dilation(mask, iterations=12) & ~ndimage.binary_dilation(mask, iterations=3)
            around &= ~film.masks.any(axis=0)
            assert film.image[mask].mean() < film.image[around].mean() - 25


def test_both_forms_hold_the_same_films(tmp_path):
    dataset = read_dataset(write_dataset("lung", tmp_path / "coco", images=4, seed=3))
    folder = write_films(tmp_path / "films", images=4, seed=3)
    assert dataset.class_names == CLASS_NAMES
    rows = list(csv.DictReader((folder / "index.csv").open()))
    assert len(rows) == len(dataset) == 4
    for row, sample in zip(rows, dataset, strict=True):
        assert row["patient_id"] == sample.patient_id
        np.testing.assert_array_equal(np.array(Image.open(folder / row["image"])), sample.image[..., 0])
        whole = np.array(Image.open(folder / row["mask"])) > 0
        drawn = sample.masks.any(axis=0)  # as polygons, which stray by less than a pixel
        assert 2 * (whole & drawn).sum() / (whole.sum() + drawn.sum()) > 0.98
    written = (folder / "index.csv").stat().st_mtime_ns
    assert write_films(tmp_path / "films", images=4, seed=3) == folder
    assert (folder / "index.csv").stat().st_mtime_ns == written
