"""Sides of drawn lungs, upright, mirrored, turned, joined, and alone."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments.findings.lung_sides import lean, orientation_of, sides_of
from mrcnn.phantoms import chest

HEIGHT, WIDTH = 120, 160


def lung(side, *, lean_by=0.2, bottom=100, width=34):
    """(H, W) bool: a bar that leans towards the middle, on the left (-1) or right (1) of the picture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inner = WIDTH / 2 + side * (14 + lean_by * (y - 15))
    across = side * (x - inner)
    return (across > 0) & (across < width) & (y > 15) & (y < bottom)


@pytest.fixture
def pair():
    """Masks of the patient's left and right lung on an upright film."""
    return lung(1, bottom=95, width=30), lung(-1)


def same(found, left, right):
    for mine, other in ((found.left, left), (found.right, right)):
        assert (mine is None) == (other is None)
        assert mine is None or np.array_equal(mine, other)


def test_the_patients_right_is_on_the_left_of_the_picture(pair):
    found = sides_of(pair[0] | pair[1])
    same(found, *pair)
    assert (found.joined, found.left_out, found.doubt) == (False, 0, None)


def test_a_mirrored_film(pair):
    left, right = pair[0][:, ::-1], pair[1][:, ::-1]
    same(sides_of(left | right, mirrored=True), left, right)
    same(sides_of(left | right), right, left)


@pytest.mark.parametrize(
    ("turned", "told"),
    [
        (lambda mask: mask[::-1, ::-1], "upside down"),
        (lambda mask: mask[::-1], "upside down"),
        (np.rot90, "quarter"),
        (lambda mask: np.rot90(mask, -1), "quarter"),
    ],
)
def test_turned_films_are_not_guessed(pair, turned, told):
    for mirrored in (False, True):
        found = sides_of(turned(pair[0] | pair[1]), mirrored=mirrored)
        assert (found.left, found.right) == (None, None)
        assert told in found.doubt


def test_holes_are_filled_and_specks_left_out(pair):
    mask = pair[0] | pair[1]
    mask[60:63, 40:45] = False
    mask[2:4, 2:4] = True
    found = sides_of(mask)
    same(found, *pair)
    assert found.left_out == 1


@pytest.mark.parametrize("rows", [(40, 46), (30, 60), (18, 26)])
def test_joined_lungs_are_parted(pair, rows):
    bridge = np.zeros_like(pair[0])
    for y in range(*rows):
        both = np.flatnonzero((pair[0] | pair[1])[y])
        bridge[y, both[0] : both[-1] + 1] = True
    found = sides_of(pair[0] | pair[1] | bridge)
    assert found.joined and found.doubt is None
    for mine, true in zip((found.left, found.right), pair, strict=True):
        assert np.count_nonzero(mine & true) / np.count_nonzero(true) > 0.95
    assert not (found.left & found.right).any()


@pytest.mark.parametrize("mirrored", [False, True])
def test_one_lung_stays_one(mirrored):
    for side in (1, -1):
        found = sides_of(lung(side), mirrored=mirrored)
        assert not found.joined and found.doubt is None
        is_left = (side == 1) != mirrored
        same(found, lung(side) if is_left else None, None if is_left else lung(side))


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (np.zeros((60, 60), bool), "no lung"),
        (lung(1)[::-1, ::-1], "leans away"),
        (lung(1, lean_by=0.0), "leans to neither"),
        (np.roll(lung(1), -40, axis=1), "too near"),
        (np.rot90(lung(1)), "wider than high"),
        (lung(1) | lung(-1) & (np.arange(HEIGHT)[:, None] % 50 > 9), "large pieces"),
        (lung(1, lean_by=0.0) | lung(-1, lean_by=0.0), "neither together nor apart"),
    ],
)
def test_doubts_are_told(mask, told):
    found = sides_of(mask)
    assert (found.left, found.right) == (None, None)
    assert told in found.doubt


@settings(max_examples=10)
@given(
    st.integers(0, 10_000),
    st.booleans(),
    st.sampled_from(["both", "left", "right"]),
)
def test_mirroring_picture_and_flag_gives_the_same_sides(seed, mirrored, kept):
    sample = chest.make_image(np.random.default_rng(seed))
    masks = [mask for mask, class_id in zip(sample.masks, sample.class_ids, strict=True)
             if kept == "both" or chest.CLASS_NAMES[class_id - 1].startswith(kept)]  # fmt: skip
    mask = np.any(masks, axis=0) if masks else np.zeros(sample.image.shape[:2], bool)
    one, other = sides_of(mask, mirrored=mirrored), sides_of(mask[:, ::-1], mirrored=not mirrored)
    assert (one.doubt, one.joined) == (other.doubt, other.joined)
    for mine, theirs in ((one.left, other.left), (one.right, other.right)):
        assert (mine is None) == (theirs is None)
        assert mine is None or np.array_equal(mine, theirs[:, ::-1])


def test_lean():
    assert lean(lung(1)) == pytest.approx(0.2, abs=0.01)
    assert lean(lung(-1)) == pytest.approx(-0.2, abs=0.01)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [("L\\F", False), ("R\\F", True), ("", None), ("l/f", False), ("LH\\F", False), ("LPH\\FA", False)],
)
def test_dicom_orientation(text, mirrored):
    assert orientation_of(text) == (mirrored, None)


@pytest.mark.parametrize("text", ["A\\F", "L\\H", "F\\L", "P\\FR", "L", "nonsense"])
def test_dicom_orientations_that_are_not_frontal_and_upright(text):
    mirrored, doubt = orientation_of(text)
    assert mirrored is None and repr(text) in doubt


def test_real_films_whole_turned_and_with_one_lung(shared_data):
    folder = shared_data / "lung"
    rows = list(csv.DictReader((folder / "index.csv").open()))[::16]
    decided = 0
    for row in rows:
        mask = np.array(Image.open(folder / row["mask"])) > 0
        found = sides_of(mask)
        assert found.doubt is None and not found.joined
        assert np.nonzero(found.right)[1].mean() < np.nonzero(found.left)[1].mean()
        assert sides_of(mask[::-1, ::-1]).doubt and sides_of(np.rot90(mask)).doubt
        for side in ("left", "right"):
            alone = sides_of(getattr(found, side))
            other = "right" if side == "left" else "left"
            assert getattr(alone, other) is None and not alone.joined
            decided += alone.doubt is None
    assert decided >= 0.95 * 2 * len(rows)
