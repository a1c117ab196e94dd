"""Cache folders on a disk that is full or read-only: the same result, or one line that names folder and remedy."""

import base64
import json
import os
from errno import ENOSPC, EROFS

import nibabel
import numpy as np
import pytest
from PIL import Image

from experiments.config.resolve import resolve
from experiments.preparation.data_check import check_data
from experiments.preparation.datasets import open_dataset
from mrcnn.data import read_dataset
from mrcnn.data.io.pseudonyms import patient_salt
from mrcnn.errors import InputError
from trackers.checkpoints.unfinished_runs import hold, unfinished_folder


@pytest.fixture(params=[ENOSPC, EROFS], ids=["full", "read-only"])
def refused(request, disk, monkeypatch):
    """Puts the cache on a disk that refuses files; returns the disk's words."""
    monkeypatch.setenv("MRCNN_CACHE", str(disk.path / "cache"))
    disk.fill()
    if request.param == EROFS:
        disk.read_only()
    return os.strerror(request.param)


@pytest.mark.parametrize("near_duplicates", ["together", "ignore"])
def test_data_are_checked_with_the_same_result(phantom_folder, disk, tmp_path, monkeypatch, near_duplicates):
    config = resolve(["--dataset", str(phantom_folder), "--data.near_duplicates", near_duplicates]).config
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))
    expected = check_data(config)
    monkeypatch.setenv("MRCNN_CACHE", str(disk.path / "cache"))
    disk.fill()
    for _ in range(2):  # the second finds whatever the first has left
        found = check_data(config)
        assert found.found == expected.found and found.problems == () and found.split_lists() == expected.split_lists()
        np.testing.assert_array_equal(found.groups, expected.groups)
    assert not [path for path in (disk.path / "cache").rglob("*") if path.is_file()]


def make_phantoms(folder):
    open_dataset(resolve(["--task", "thyroid"]).config.data)


def read_volume(folder):
    for name, values in (("imagesTr/a_0000", np.arange(600).reshape(10, 10, 6)), ("labelsTr/a", np.ones((10, 10, 6)))):
        (folder / name).parent.mkdir()
        nibabel.Nifti1Image(values.astype(np.int16), np.eye(4)).to_filename(folder / f"{name}.nii.gz")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    read_dataset(folder).image(0)


def read_embedded_image(folder):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(folder / "a.png")
    content = {"version": "5.5.0", "flags": {}, "imagePath": "a.png", "imageHeight": 8, "imageWidth": 8}
    content["imageData"] = base64.b64encode((folder / "a.png").read_bytes()).decode()
    content["shapes"] = [{"label": "a", "points": [[1, 1], [6, 1], [6, 6]], "shape_type": "polygon"}]
    (folder / "a.png").unlink()
    (folder / "a.json").write_text(json.dumps(content))
    read_dataset(folder)


def begin_training(folder):
    with hold(unfinished_folder() / "a", "held"):
        pass


@pytest.mark.parametrize("work", [make_phantoms, read_volume, read_embedded_image, begin_training])
def test_what_needs_the_cache_is_one_line(refused, work, disk, tmp_path):
    (folder := tmp_path / "data").mkdir()
    if refused == os.strerror(ENOSPC) and work is begin_training:
        pytest.skip("a full disk still takes the empty lock; a full disk while checkpoints are saved: test_disk.py")
    with pytest.raises(InputError) as error:
        work(folder)
    line = str(error.value)
    assert str(disk.path) in line and f"({refused}); set MRCNN_CACHE to another folder" in line and "\n" not in line


def test_a_secret_that_cannot_be_made_is_one_line(refused, disk, monkeypatch):
    monkeypatch.delenv("MRCNN_PATIENT_SALT")
    with pytest.raises(InputError, match=rf"^{disk.path}.*\({refused}\); set MRCNN_PATIENT_SALT, or MRCNN_CACHE to an"):
        patient_salt()
