"""Test masks as crops and run-length encodings against arrays."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.inference.ensemble import flip_detections
from mrcnn.instance_masks import Crop, InstanceMasks

MASKS = arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9)))


def forms(masks):
    """Return the same masks in each representation."""
    _, height, width = masks.shape
    runs = [coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks]
    return {
        "array": InstanceMasks.from_array(masks),
        "crops": InstanceMasks(height, width, [Crop(0, 0, mask) .tight() for mask in masks]),
        "runs": InstanceMasks(height, width, runs),
        "pickled": pickle.loads(pickle.dumps(InstanceMasks(height, width, runs))),
    }  # fmt: skip


@given(MASKS, st.data())
def test_all_representations_are_equal(masks, data):
    count, height, width = masks.shape
    chosen = data.draw(st.lists(st.integers(0, count - 1), max_size=4)) if count else []
    expected_runs = [coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks]
    for held in forms(masks).values():
        assert (held.shape, len(held), held.dtype) == (masks.shape, count, bool)
        assert held.areas.tolist() == masks.sum(axis=(1, 2)).tolist()
        for mask, box, index in zip(masks, held.boxes, range(count), strict=True):
            rows, columns = np.nonzero(mask)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
            assert box.tolist() == expected
            np.testing.assert_array_equal(held.mask(index), mask)
            np.testing.assert_array_equal(held.region(index, 1, height, 0, width - 1), mask[1:, :-1])
        assert held.to_rle() == expected_runs
        np.testing.assert_array_equal(held.union(), masks.any(axis=0))
        np.testing.assert_array_equal(held.select(np.array(chosen, int)).to_array(), masks[chosen])
        np.testing.assert_array_equal(held.flip(horizontal=True).to_array(), masks[:, :, ::-1])
        np.testing.assert_array_equal(held.flip(vertical=True).to_array(), masks[:, ::-1])
        np.testing.assert_array_equal(np.asarray(held), masks)


def test_samples_and_detections_give_arrays(monkeypatch):
    masks = np.random.default_rng(0).random((3, 6, 7)) < 0.4
    image, ids = np.zeros((6, 7, 1), np.uint8), np.ones(3, np.int32)
    for given_masks in (masks, forms(masks)["runs"]):
        sample = Sample(image, given_masks, ids, "p", "s")
        assert sample.masks.dtype == bool
        np.testing.assert_array_equal(sample.masks, masks)
        found = Detections(np.zeros((3, 4), np.float32), np.float32([0.9, 0.5, 0.2]), ids, given_masks)
        np.testing.assert_array_equal(found.above(0.4).masks, masks[:2])
        np.testing.assert_array_equal(flip_detections(found, ("horizontal",)).masks, masks[:, :, ::-1])
    assert Sample(image, masks, ids, "p", "s").masks is masks
    assert Detections.empty(6, 7).masks.shape == (0, 6, 7)
    with pytest.raises(ValueError, match=r"masks are uint8 \(3, 6, 7\), expected bool \(3, 6, 7\)"):
        Sample(image, masks.astype(np.uint8), ids, "p", "s")
    with pytest.raises(ValueError, match=r"masks are bool \(3, 6, 7\), expected bool \(2, 6, 7\)"):
        Sample(image, masks, ids[:2], "p", "s")


def test_thousands_on_a_large_image_need_no_arrays():
    side, count = 8000, 2000  # 128 GB as arrays
    polygon = [10.0, 10.0, 30.0, 10.0, 30.0, 25.0, 10.0, 25.0]
    runs = coco_mask.frPyObjects([polygon], side, side)[0]["counts"]
    tracemalloc.start()
    held = InstanceMasks(side, side, [runs] * count)
    assert held.areas.tolist() == [300] * count
    assert held.boxes.tolist() == [[10, 10, 30, 25]] * count
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    with pytest.raises(InputError, match="2000 masks of 8000×8000 pixels: 119 GiB as one array, expected at most 32"):
        held.to_array()
