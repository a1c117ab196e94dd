"""A fingerprint counted by hand."""

import json

import numpy as np
import pytest

from mrcnn.data import fingerprint, read_dataset
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
    with pytest.raises(InputError, match="patient 'a' is in train and in test"):
        fingerprint(in_memory([("a", []), ("a", [])]), {"train": [0], "test": [1]})


def test_keeps_the_readers_warnings(in_memory):
    assert fingerprint(in_memory([("a", [1, 2, 3])], warnings=["look"]), {"train": [0]}).warnings == ("look",)
