"""A fingerprint counted by hand."""

import json

import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.fingerprint import fingerprint
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError


def test_by_hand(coco, write_coco):
    coco["annotations"].pop(1)  # now image 0 is without instances, image 1 has one of each class: 15 and 110 pixels
    found = fingerprint(read_dataset(write_coco(coco), patient_pattern="^."), {"train": [1], "val": np.array([0])})
    assert found.whole.images == 2 and found.whole.patients == 2
    assert found.whole.images_without_instances == 1
    assert found.whole.instances == {"iso": 1, "hypo": 1}
    assert found.splits["train"].instances == {"iso": 1, "hypo": 1}
    assert found.splits["val"].instances == {"iso": 0, "hypo": 0}
    assert found.sizes == {"small": 2, "medium": 0, "large": 0}
    assert found.sides["50%"] == pytest.approx((15**0.5 + 110**0.5) / 2, abs=0.05)
    assert found.image_sizes == {"20×12": 2}
    assert found.warnings == ("class 'iso' has no instance in val", "class 'hypo' has no instance in val")
    again = json.loads(json.dumps(found.as_dict()))
    assert again["splits"]["train"]["images"] == 1
    assert again["warnings"] == list(found.warnings)


def test_no_instance_and_no_image(in_memory):
    found = fingerprint(in_memory([("a", []), ("b", [])], class_names=("one",)), {"train": [0], "val": [1], "test": []})
    assert found.sides == {}
    assert found.warnings == ("class 'one' has no instance",)
    assert found.splits["test"].images == 0
    assert fingerprint(in_memory([]), {}).whole.images == 0


def test_coco_sizes(in_memory):
    dataset = in_memory([("a", [1, 1, 1, 1, 1])])
    dataset.records[0].areas[:] = [1023, 1024, 96**2 - 1, 96**2, 10**6]
    assert fingerprint(dataset, {}).sizes == {"small": 1, "medium": 2, "large": 2}


def test_a_patient_in_two_splits_is_an_error(in_memory):
    with pytest.raises(InputError, match=r"patient 'a' is in train \(0.png\) and in test \(1.png\)"):
        fingerprint(in_memory([("a", []), ("a", [])]), {"train": [0], "test": [1]})


def test_keeps_the_readers_warnings(in_memory):
    assert fingerprint(in_memory([("a", [1, 2, 3])], warnings=["look"]), {"train": [0]}).warnings == ("look",)


def test_near_duplicates_that_disagree_are_named(in_memory):
    """Groups by hand: 0 and 1 of two classes, 2 to 4 with and without instances, 5 and 6 agree, 7 to 8 by label."""
    dataset = in_memory(
        [("a", [1]), ("b", [2]), ("c", [1]), ("d", []), ("e", []), ("f", [1, 1]), ("g", [1]), ("h", [1]), ("i", [1])]
    )
    for index, label in ((7, "benign"), (8, "malignant")):
        object.__setattr__(dataset.records[index], "label", label)
    groups = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3])
    first, second, _ = dataset.class_names
    _, labels, classes, empty = fingerprint(dataset, {"train": range(9)}, groups).warnings[:4]
    assert labels == (
        "pairs of images, in 1 of these groups, that have different labels; one of the two may be wrong: 1: "
        f"7.png (labeled benign, {first}) and 8.png (labeled malignant, {first})"
    )
    assert classes == (
        "pairs of images, in 1 of these groups, that have instances of different classes; one of the two may be wrong: "
        f"1: 0.png ({first}) and 1.png ({second})"
    )
    assert empty.startswith("pairs of images, in 1 of these groups, that have instances in one and none in the other")
    assert empty.endswith(f"slices: 2: 2.png ({first}) and 3.png (no instance); …")
    agreeing = fingerprint(dataset, {"train": range(9)}, np.array([0, 1, 2, 3, 4, 5, 5, 6, 7])).warnings
    assert not any("pairs of images" in warning for warning in agreeing)


def test_neighboring_slices_may_differ(in_memory):
    dataset = in_memory([("a", [1]), ("a", []), ("b", [])])
    for index, record in enumerate(dataset.records):
        object.__setattr__(record, "place", SlicePosition(record.patient_id, index))
    told = fingerprint(dataset, {"train": range(3)}, np.zeros(3, int)).warnings
    (said,) = [warning for warning in told if "pairs of images" in warning]
    assert "slices: 1: 0.png" in said and "2.png (no instance)" in said
