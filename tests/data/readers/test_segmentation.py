"""Polygons and run lengths against grids drawn by hand and pycocotools' own coder."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from mrcnn.data.readers.segmentation import boxes_and_areas, encode_segmentation
from mrcnn.instance_masks import InstanceMasks

MASKS = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def decode(runs, height, width):
    return InstanceMasks(height, width, [runs]).mask(0)


def counts_by_hand(mask):
    """Run lengths down the columns, background first."""
    flat = mask.T.reshape(-1)
    lengths = [len(list(group)) for _, group in groupby(flat)]
    return [0, *lengths] if flat[0] else lengths


def box_by_hand(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_rectangle_covers_its_pixels():
    mask = decode(encode_segmentation([[2, 3, 7, 3, 7, 6, 2, 6]], 12, 20), 12, 20)
    expected = np.zeros((12, 20), bool)
    expected[3:6, 2:7] = True
    np.testing.assert_array_equal(mask, expected)


def test_parts_are_united_also_where_they_overlap():
    parts = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6], [8, 8, 10, 8, 10, 10, 8, 10]]
    mask = decode(encode_segmentation(parts, 12, 12), 12, 12)
    expected = np.zeros((12, 12), bool)
    expected[:4, :4] = expected[2:6, 2:6] = expected[8:10, 8:10] = True
    np.testing.assert_array_equal(mask, expected)


def test_fractional_triangle_agrees_with_its_area():
    mask = decode(encode_segmentation([[10.5, 10.25, 90.75, 10.25, 10.5, 80.5]], 100, 100), 100, 100)
    assert mask.sum() == pytest.approx(80.25 * 70.25 / 2, rel=0.02)


def test_what_reaches_over_the_edge_is_cut():
    mask = decode(encode_segmentation([[-5, -5, 3, -5, 3, 20, -5, 20]], 10, 10), 10, 10)
    expected = np.zeros((10, 10), bool)
    expected[:, :3] = True
    np.testing.assert_array_equal(mask, expected)


@given(MASKS)
def test_both_forms_of_run_lengths(mask):
    height, width = mask.shape
    compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    for counts in (compressed, counts_by_hand(mask)):
        runs = encode_segmentation({"size": [height, width], "counts": counts}, height, width)
        np.testing.assert_array_equal(decode(runs, height, width), mask)
        boxes, areas = boxes_and_areas([runs], [(height, width)])
        assert areas.tolist() == [mask.sum()]
        if mask.any():
            assert boxes[0].tolist() == box_by_hand(mask)


@given(MASKS, st.data())
def test_empty_runs_in_between_do_not_widen_the_box(mask, data):
    height, width = mask.shape
    counts = counts_by_hand(mask)
    cut = data.draw(st.integers(0, len(counts)))
    counts = [*counts[:cut], 0, 0, *counts[cut:]]
    boxes, areas = boxes_and_areas(
        [encode_segmentation({"size": [height, width], "counts": counts}, height, width)], [(height, width)]
    )
    assert areas.tolist() == [mask.sum()]
    if mask.any():
        assert boxes[0].tolist() == box_by_hand(mask)


def test_long_runs_of_large_images():
    mask = np.zeros((3000, 4000), bool)
    mask[17:2500, 5:3900] = True
    mask[100, 3950] = True
    compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    runs = encode_segmentation({"size": [3000, 4000], "counts": compressed}, 3000, 4000)
    boxes, areas = boxes_and_areas([runs], [(3000, 4000)])
    assert areas.tolist() == [mask.sum()]
    assert boxes[0].tolist() == [5, 17, 3951, 2500]


def test_more_masks_than_pycocotools_measures_at_once():
    runs = encode_segmentation([[0, 0, 3, 0, 3, 2, 0, 2]], 5, 5)
    boxes, areas = boxes_and_areas([runs] * 600, [(5, 5)] * 600)
    assert (areas == 6).all()
    assert (boxes == [0, 0, 3, 2]).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "missing or empty"),
        ([], "missing or empty"),
        ("x", "missing or empty"),
        ([[1, 1, 2, 2]], "2 points; expected at least 3"),
        ([[1, 1, 2, 2, 3, 3, 4]], "not a list of x, y pairs"),
        ([1, 2, 3, 4, 5, 6], "not a list of x, y pairs"),
        ([[1, 1, 2, float("nan"), 3, 3]], "not a finite number"),
        ([[1, 1, 2, float("inf"), 3, 3]], "not a finite number"),
        ([[1, 1, 2, "a", 3, 3]], "not a finite number"),
        ([[1, 1, 2, None, 3, 3]], "not a finite number"),
        ([[1, 1, 2, [3], 3, 3]], "not a finite number"),
        ([[1, 1, 2, 1e9, 3, 3]], "far outside its image"),
        ({"size": [4, 5], "counts": [20]}, r"size \[4, 5\]; expected \[5, 4\]"),
        ({"counts": [20]}, r"size None; expected \[5, 4\]"),
        ({"size": [5, 4]}, "no counts"),
        ({"size": [5, 4], "counts": [1.5, 18.5]}, "no counts"),
        ({"size": [5, 4], "counts": [3, 4]}, r"7 pixels; expected 20"),
        ({"size": [5, 4], "counts": [30]}, r"30 pixels; expected 20"),
        ({"size": [5, 4], "counts": [25, -5]}, r"expected 20"),
        ({"size": [5, 4], "counts": []}, r"0 pixels; expected 20"),
        ({"size": [5, 4], "counts": ""}, "not a compressed run-length string"),
        ({"size": [5, 4], "counts": "\n"}, "not a compressed run-length string"),
        ({"size": [5, 4], "counts": "é"}, "not a compressed run-length string"),
        ({"size": [5, 4], "counts": "P" * 40 + "0"}, "not a compressed run-length string"),
        ({"size": [5, 4], "counts": "4"}, "4 pixels; expected 20"),
    ],
)
def test_wrong_ones_are_named(segmentation, message):
    with pytest.raises(ValueError, match=message):
        encode_segmentation(segmentation, 5, 4)
