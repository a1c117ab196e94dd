"""Volumes put together from slices, against cubes worked by hand and arrays that were never cut."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError
from mrcnn.metrics import Evaluator


@pytest.fixture
def evaluated(make_sample, make_detections):
    """Function: an evaluator of volumes, name → (truth, prediction), each (slices, H, W) bool or (K, slices, H, W)."""

    def make(volumes, spacing=(1.0, 1.0), step=1.0, classes=("one",), chosen=None):
        evaluator = Evaluator(classes, volumes=True)
        for name, (truth, predicted) in volumes.items():
            truth, predicted = (array.reshape(len(classes), -1, *array.shape[-2:]) for array in (truth, predicted))
            for index in chosen or range(truth.shape[1]):
                parts = []
                for stack in (truth, predicted):
                    ids = np.flatnonzero(stack[:, index].any(axis=(1, 2)))
                    parts.append((stack[ids, index], ids + 1))
                sample = make_sample(*parts[0], patient_id=name[0], source=f"{name}:{index}", spacing_mm=spacing)
                sample = replace(sample, place=SlicePosition(name, index, step))
                masks, ids = parts[1]
                evaluator.add(sample, make_detections(masks, np.full(len(masks), 0.9), ids))
        return evaluator

    return make


def cube(*spans, shape=(8, 10, 12)):
    made = np.zeros(shape, bool)
    made[tuple(slice(*span) for span in spans)] = True
    return made


def test_a_cube_moved_by_one_slice(evaluated):
    # 4×4×4 voxels, 3 of 4 slices in common: Dice 2·48/128. Of the farthest slice's 16 voxels the 95th percentile is one
    # step of 2.5 mm away, as 16 of 56 surface voxels are.
    truth, predicted = cube((1, 5), (2, 6), (3, 7)), cube((2, 6), (2, 6), (3, 7))
    scores = evaluated({"a": (truth, predicted)}, step=2.5).summary(0.5)
    assert scores["volume_dice"] == scores["volume_dice/one"] == 0.75
    assert scores["volume_hd95"] == pytest.approx(2.5)
    assert scores["volumes"] == 1 and scores["volume_hd95_skipped"] == 0


def test_voxels_far_apart_use_all_three_sides(evaluated):
    truth, predicted = cube((0, 1), (0, 1), (0, 1)), cube((2, 3), (3, 4), (4, 5))
    scores = evaluated({"a": (truth, predicted)}, spacing=(0.5, 2.0), step=3.0).summary(0.5)
    assert scores["volume_hd95"] == pytest.approx(math.hypot(2 * 3.0, 3 * 0.5, 4 * 2.0))
    assert scores["volume_dice"] == 0


def test_slices_apart_weigh_by_their_voxels_not_alike(evaluated):
    # Slice 0: 100 voxels, all found. Slice 1: 1 voxel, missed. The mean over slices is 0.5, the volume's Dice 200/201.
    truth = cube((0, 1), (0, 10), (0, 10)) | cube((1, 2), (0, 1), (0, 1))
    scores = evaluated({"a": (truth, truth & cube((0, 1), (0, 10), (0, 12)))}).summary(0.5)
    assert scores["dice"] == 0.5
    assert scores["volume_dice"] == pytest.approx(200 / 201)


def test_empty_truth_and_empty_prediction(evaluated):
    some, none = cube((1, 3), (1, 3), (1, 3)), cube((0, 0))
    pairs = {"a": (some, some), "b": (some, none), "c": (none, some), "d": (none, none)}
    evaluator = evaluated(pairs)
    scores = evaluator.summary(0.5)
    assert scores["volume_dice"] == pytest.approx(1 / 3)  # 1, 0, 0; the last is left out
    assert scores["volume_hd95"] == 0  # of the first alone
    assert (scores["volumes"], scores["volume_hd95_skipped"]) == (4, 2)
    rows = {row["volume"]: row for row in evaluator.per_volume(0.5)}
    assert [rows[name]["dice"] for name in "abcd"] == [1, 0, 0, None]
    assert rows["d"] == {
        "volume": "d", "patient_id": "d", "slices": 8, "dice": None, "dice/one": None, "hd95_mm": None,
        "hd95_mm/one": None,
    }  # fmt: skip


def test_classes_are_measured_apart_and_averaged(evaluated):
    whole, core = cube((1, 5), (1, 7), (1, 7)), cube((2, 4), (2, 4), (2, 4))
    none = np.zeros_like(whole)
    scores = evaluated({"a": (np.stack([whole, core]), np.stack([whole, none]))}, classes=("wt", "tc")).summary(0.5)
    assert (scores["volume_dice/wt"], scores["volume_dice/tc"], scores["volume_dice"]) == (1, 0, 0.5)
    assert "volume_hd95/tc" not in scores


def test_without_the_size_of_a_voxel_there_is_no_distance(evaluated):
    some = cube((1, 3), (1, 3), (1, 3))
    scores = evaluated({"a": (some, some)}, step=None).summary(0.5)
    assert scores["volume_dice"] == 1
    assert not any(name.startswith("volume_hd95/") or name == "volume_hd95" for name in scores)
    assert scores["volume_hd95_skipped"] == 0


def test_only_what_reaches_the_confidence_counts(evaluated):
    some = cube((1, 3), (1, 3), (1, 3))
    assert evaluated({"a": (some, some)}).summary(0.95)["volume_dice"] == 0


def test_intervals_are_over_patients(evaluated):
    some, half = cube((1, 3), (1, 3), (1, 3)), cube((1, 2), (1, 3), (1, 3))
    evaluator = evaluated({"a1": (some, some), "a2": (some, half), "b1": (some, half)})
    found = evaluator.intervals(0.5, resamples=200)
    # Patient a has Dice 1 and 2/3, b 2/3: resamples are a a, a b or b b.
    assert found["volume_dice_lo"] == pytest.approx(2 / 3)
    assert found["volume_dice_hi"] == pytest.approx(5 / 6)


def test_images_that_are_no_slices_are_refused(make_sample, make_detections, rectangles):
    masks = rectangles((1, 1, 4, 4))
    evaluator = Evaluator(("one",), volumes=True)
    evaluator.add(make_sample(masks, source="lone.png"), make_detections(masks, [0.9]))
    with pytest.raises(InputError, match=r"lone\.png: is not a slice"):
        evaluator.summary(0.5)


def test_slices_given_twice_or_of_two_sizes_are_refused(make_sample, make_detections, rectangles):
    for second, message in ((("a", 1, 20), "occurs twice"), (("a", 2, 30), "is 30×30 pixels; expected 20×20")):
        evaluator = Evaluator(("one",), volumes=True)
        for volume, index, side in (("a", 1, 20), second):
            masks = rectangles((1, 1, 4, 4), side=side)
            sample = make_sample(masks, source=f"{volume}:{index}")
            sample = replace(sample, place=SlicePosition(volume, index))
            evaluator.add(sample, make_detections(masks, [0.9]))
        with pytest.raises(InputError, match=message):
            evaluator.summary(0.5)


def test_against_distances_of_all_pairs(evaluated):
    rng = np.random.default_rng(4)
    spacing = (0.7, 1.3)
    for _ in range(5):
        truth, predicted = (ndimage.gaussian_filter(rng.normal(size=(9, 14, 13)), 1.5) > 0.05 for _ in range(2))
        points = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * (2.0, *spacing) for mask in (truth, predicted)]
        apart = cdist(*points)
        expected = max(np.percentile(apart.min(axis=0), 95), np.percentile(apart.min(axis=1), 95))
        scores = evaluated({"a": (truth, predicted)}, spacing=spacing, step=2.0).summary(0.5)
        assert scores["volume_hd95"] == pytest.approx(expected)
        assert scores["volume_dice"] == pytest.approx(2 * (truth & predicted).sum() / (truth.sum() + predicted.sum()))


def test_objects_in_one_slice_are_left_out_if_that_is_better(make_sample, make_detections, rectangles):
    """Slices 1 and 2 show an instance, found with 0.6 and 0.5; slice 4 shows none, and there is a false one of 0.9."""
    evaluator = Evaluator(("one",), volumes=True)
    true, false = rectangles((4, 4, 10, 10)), rectangles((0, 0, 3, 3))
    for index, (truth, found, scores) in enumerate(
        [(true, true, [0.6]), (true, np.concatenate([true, false]), [0.5, 0.1]), (true[:0], true[:0], []),
         (true[:0], false, [0.9])]
    ):  # fmt: skip
        sample = make_sample(truth, [1] * len(truth), "anna", f"v:{index + 1}")
        sample = replace(sample, place=SlicePosition("v", index + 1))
        evaluator.add(sample, make_detections(found, scores, [1] * len(found)))
    assert evaluator.summary(0.5)["precision"] == pytest.approx(2 / 3)
    # From 0.15 to 0.5 everything is found once the false one is left out; below, another one is linked to nothing.
    confidence, min_slices = evaluator.best_operating_point((1, 2))
    assert min_slices == 2 and 0.05 <= confidence <= 0.5
    part = evaluator.without_short_objects(0.5, 2)
    assert (part.summary(0.5)["volume_dice"], part.summary(0.5)["dice"]) == (1, 1)
    # What is below the threshold stays for average precision.
    assert [len(case.scores) for case in part.cases] == [1, 2, 0, 0]
    assert [len(case.scores) for case in evaluator.without_short_objects(0.05, 2).cases] == [1, 1, 0, 0]
    assert len(evaluator.without_short_objects(0.5, 3).cases[0].scores) == 0
    assert evaluator.best_operating_point((1,)) == (evaluator.best_confidence(), 1)
    assert evaluator.subset([0, 1, 2]).best_operating_point((1, 2))[1] == 1


def test_detections_of_a_case_are_those_that_were_added(make_sample, make_detections, rectangles):
    evaluator, masks = Evaluator(("one",)), rectangles((4, 4, 10, 10), (0, 1, 3, 3))
    evaluator.add(make_sample(masks, [1, 1], "anna", "a.png"), make_detections(masks, [0.4, 0.8], [1, 1]))
    found = evaluator.cases[0].detections(0.3)
    np.testing.assert_array_equal(found.masks, masks[::-1])
    assert found.boxes.tolist() == [[0, 1, 3, 3], [4, 4, 10, 10]] and found.scores.tolist() == pytest.approx([0.8, 0.4])
    assert len(evaluator.cases[0].detections(0.5)) == 1
