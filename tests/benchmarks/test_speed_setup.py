import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.speed_setup import few_threshold, fill_boxes, make_boxes, make_images


def test_images_and_boxes_are_the_same_each_time():
    assert np.array_equal(make_images(64, 2), make_images(64, 2))
    assert np.array_equal(make_boxes(64, 2), make_boxes(64, 2))


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_boxes_lie_in_the_image_with_sides_of_an_eighth_to_a_third(size):
    boxes = make_boxes(size, 8)
    assert boxes.shape == (8, 4, 4)
    assert boxes.min() >= 0 and boxes.max() <= size
    sides = boxes[..., 2:] - boxes[..., :2]
    assert sides.min() >= size // 8 and sides.max() <= size / 3


def test_masks_fill_their_boxes():
    (mask,) = fill_boxes(np.array([[1, 2, 4, 4]]), 5)
    assert mask.sum() == 3 * 2
    assert mask[2:4, 1:4].all()


def test_few_keeps_three_an_image():
    assert few_threshold([[0.9, 0.8, 0.7, 0.6, 0.5]]) == pytest.approx(0.65)


def test_few_keeps_three_an_image_on_average():
    # Sorted together: .9 .8 .7 .6 .5 | .4 .3 … and six are wanted of two images.
    assert few_threshold([[0.9, 0.7, 0.5, 0.3], [0.8, 0.6, 0.4, 0.2]]) == pytest.approx(0.35)


def test_few_keeps_at_most_five_where_one_image_has_all_the_best():
    scores = [[0.99, 0.98, 0.97, 0.96, 0.95, 0.94], [0.3, 0.2]]
    assert few_threshold(scores) == pytest.approx((0.95 + 0.94) / 2)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=7, max_size=20, unique=True), min_size=1, max_size=4))
def test_few_is_never_more_than_five(scores):
    try:
        threshold = few_threshold(scores)
    except ValueError:  # images may share their best scores, so that no threshold parts them
        return
    kept = [sum(score >= threshold for score in image) for image in scores]
    assert max(kept) <= 5
    assert 1 <= sum(kept) <= 3 * len(scores)


@pytest.mark.parametrize("scores", [[[]], [[0.5]], [[0.5] * 9]])
def test_nothing_to_choose_between_is_an_error(scores):
    with pytest.raises(ValueError, match="expected more"):
        few_threshold(scores)
