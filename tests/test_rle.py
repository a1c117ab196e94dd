import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from mrcnn import rle

shapes = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9))
stacks = hnp.arrays(bool, shapes)


@given(stacks)
def test_same_bytes_as_pycocotools(masks):
    plain = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    assert rle.encode(masks) == plain


def test_views_of_other_layouts():
    masks = np.zeros((6, 7, 2), bool)
    masks[1:4, 2:5, 0] = masks[5, 6, 1] = True
    assert rle.encode(np.moveaxis(masks, 2, 0)) == rle.encode(np.moveaxis(masks, 2, 0).copy())


@given(stacks)
def test_areas_and_boxes(masks):
    encoded = rle.encode(masks)
    assert rle.areas(encoded).tolist() == masks.sum(axis=(1, 2)).tolist()
    for mask, (x, y, width, height) in zip(masks, rle.coco_boxes(encoded), strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
        else:
            assert width == height == 0


def test_more_masks_than_a_byte_counts():
    masks = np.zeros((300, 4, 4), bool)
    masks[:, 1, 1:3] = True
    assert rle.areas(rle.encode(masks)).tolist() == [2] * 300


def test_crop():
    mask = np.zeros((1, 6, 8), bool)
    mask[0, 2:4, 5] = mask[0, 3, 6] = True
    cropped, corner = rle.decode_cropped(rle.encode(mask)[0])
    assert corner == (2, 5)
    assert cropped.tolist() == [[True, False], [True, True]]


def test_ious():
    masks = np.zeros((3, 4, 4), bool)
    masks[0, :2], masks[1, 1:3], masks[2, 3, 3] = True, True, True
    encoded = rle.encode(masks)
    assert rle.ious(encoded[:2], encoded) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0]]))
    assert rle.ious([], encoded).shape == (0, 3)
    assert rle.ious(encoded, []).shape == (3, 0)


def test_json_form_decodes_to_the_same():
    mask = np.eye(5, dtype=bool)[None]
    text = rle.as_json(rle.encode(mask)[0])
    assert isinstance(text["counts"], str)
    assert (coco_mask.decode(text) == mask[0]).all()
