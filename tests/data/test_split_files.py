"""Splits of a user's own: names that are found, and everything that they may not do."""

import json

import numpy as np
import pytest

from mrcnn.data import Dataset
from mrcnn.data.dataset import Record
from mrcnn.data.sample import SlicePosition
from mrcnn.data.split_files import read_splits
from mrcnn.errors import InputError


def record(name, patient, place=None):
    return Record(name, f"/x/{name}", 8, 8, patient, np.array([1]), np.zeros((1, 4)), np.ones(1), place=place)


@pytest.fixture
def dataset():
    names = [("images/a 1.png", "p1"), ("images/a 2.png", "p1"), ("images/b.jpg", "p2"), ("images/c.png", "p3"),
             ("other/c.png", "p4")]  # fmt: skip
    records = [record(name, patient) for name, patient in names]
    records += [record(f"v_flair.nii.gz:{index}", "v", SlicePosition("v", index)) for index in (3, 4)]
    return Dataset(("x",), records, [()] * len(records))


@pytest.fixture
def read(tmp_path, dataset):
    def read_content(content, **options):
        (tmp_path / "s.json").write_text(json.dumps(content))
        folds, warnings = read_splits(tmp_path / "s.json", dataset, **options)
        return [{name: part.tolist() for name, part in fold.items()} for fold in folds], warnings

    return read_content


def test_every_name_of_an_image(read):
    assert read({"train": ["p1", "v"], "val": ["b"], "test": ["images/c.png", "other/c"]}) == (
        [{"train": [0, 1, 5, 6], "val": [2], "test": [3, 4]}],
        [],
    )
    of_run = {"train": [{"file_name": "images/b.jpg", "patient_id": "p2"}], "val": [{"file_name": "v_flair.nii.gz:4"}]}
    folds, warnings = read(of_run)
    assert folds == [{"train": [2], "val": [6], "test": []}]
    assert warnings == ["5 images are in no split of s.json and are left out: images/a 1.png, images/a 2.png, "
                        "images/c.png and 2 more"]  # fmt: skip


def test_folds_of_nnunet(read):
    folds, _ = read([{"train": ["b"], "val": ["v"]}, {"train": ["v"], "val": ["b"]}])
    assert folds == [{"train": [2], "val": [5, 6], "test": []}, {"train": [5, 6], "val": [2], "test": []}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["b", "q", "r.png"], "val": ["v"]}, r"2 names are of no image.*: q, r\.png; expected names such as"),
        ({"train": ["a 1"], "val": ["a 2"]}, r"patient 'p1' is in train \(images/a 1.png\) and in val \(images/a 2"),
        ({"train": ["b"], "val": ["images/b.jpg"]}, r"is in train \(images/b.jpg\) and in val \(images/b.jpg\)"),
        ({"train": ["b"], "val": ["c"]}, r"'c' could be images/c\.png or other/c\.png"),
        ({"train": ["b"]}, "has no image in val"),
        ({"train": ["b"], "val": ["v"], "extra": []}, "holds 'extra'; expected {train"),
        ({"train": "b", "val": ["v"]}, "expected {train"),
        ([["b"], ["v"]], "expected {train"),
        ([], "expected {train"),
        ({"train": [["b"]], "val": ["v"]}, r"s\.json, train: holds \['b'\]; expected names of images"),
    ],
)
def test_what_is_refused(read, content, message):
    with pytest.raises(InputError, match=message):
        read(content)


def test_near_duplicates_across_splits_are_refused(read):
    groups = np.array([0, 1, 2, 3, 4, 2, 5])
    with pytest.raises(InputError, match=r"near-duplicate images 2 is in train \(images/b.jpg\) and in val \(v_flair"):
        read({"train": ["b"], "val": ["v"]}, groups=groups)


def test_invalid_images_that_were_left_out_may_be_named(read):
    assert read({"train": ["b", "images/bad.png"], "val": ["v"]}, left_out=["images/bad.png"])[0][0]["train"] == [2]


def test_a_broken_file(tmp_path, dataset):
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(InputError, match=r"s\.json: not a JSON file"):
        read_splits(tmp_path / "s.json", dataset)
