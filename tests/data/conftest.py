"""Small COCO sets on disk, and data sets that exist in memory only."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from mrcnn.data.dataset import Dataset, Record

SHARED = Path(__file__).parents[3] / "shared" / "data"


def rectangle(x1, y1, x2, y2):
    """A polygon around the pixels x1 … x2 - 1, y1 … y2 - 1."""
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


@pytest.fixture
def coco():
    """A COCO object of two 20×12 images, three instances and two classes, fresh for each test to spoil."""
    return {
        "categories": [{"id": 7, "name": "hypo"}, {"id": 3, "name": "iso"}],
        "images": [
            {"id": 1, "file_name": "a_1.png", "height": 12, "width": 20},
            {"id": 2, "file_name": "b_1.png", "height": 12, "width": 20},
        ],
        "annotations": [
            {"id": 1, "image_id": 2, "category_id": 7, "segmentation": rectangle(2, 3, 7, 6)},
            {"id": 2, "image_id": 1, "category_id": 3, "segmentation": rectangle(0, 0, 4, 4), "iscrowd": 0},
            {"id": 3, "image_id": 2, "category_id": 3, "segmentation": rectangle(10, 1, 20, 12)},
        ],
    }


@pytest.fixture
def write_coco(tmp_path):
    """Writes a COCO object and random images of the stated sizes as a data set's folder."""

    def write(content, folder=tmp_path, images="images"):
        (folder / images).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for entry in content["images"]:
            pixels = rng.integers(0, 256, (entry["height"], entry["width"], 3), np.uint8)
            Image.fromarray(pixels).save(folder / images / entry["file_name"])
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture(scope="session")
def in_memory():
    """A data set of (patient, class ids) pairs, 8×8 pixels an image, whose files do not exist."""

    def build(images, class_names=("one", "two", "three"), warnings=()):
        pixel = coco_mask.encode(np.asfortranarray(np.eye(8, dtype=np.uint8)))["counts"]
        records = [
            Record(
                file_name=f"{index}.png",
                path=Path(f"{index}.png"),
                height=8,
                width=8,
                patient_id=patient,
                class_ids=np.array(class_ids, np.int32),
                boxes=np.tile(np.float32([0, 0, 8, 8]), (len(class_ids), 1)),
                areas=np.full(len(class_ids), 8),
            )
            for index, (patient, class_ids) in enumerate(images)
        ]
        return Dataset(class_names, records, [[pixel] * len(record.class_ids) for record in records], warnings)

    return build


@pytest.fixture
def shared_data():
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not here")
    return SHARED


LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""First axis to the left, second to the back, third up, as BraTS lies."""


@pytest.fixture(scope="session")
def head():
    """Brain (columns, rows, slices) bool, as it lies in a file of BraTS, and a label map in the codes of 2018.

    Slices 1 … 6 show brain; 2 … 4 edema, 3 and 4 core, 3 enhancing tumor too, and 4 a speck of edema besides.
    """
    brain, labels = np.zeros((12, 10, 8), bool), np.zeros((12, 10, 8), np.uint8)
    brain[1:11, 1:9, 1:7] = True
    labels[2:8, 2:7, 2:5] = 2
    labels[3:7, 3:6, 3:5] = 1
    labels[4:6, 4:5, 3] = 4
    labels[9, 8, 4] = 2
    return brain, labels


@pytest.fixture(scope="session")
def write_nifti():
    """Writes an array as a NIfTI file, in the grid of BraTS unless said otherwise."""

    def write(path, array, affine=LPS):
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(array, affine).to_filename(path)
        return path

    return write


@pytest.fixture
def write_case(head, write_nifti, tmp_path, monkeypatch):
    """Writes a case below `tmp_path / "set"`: raw intensities, 0 around the brain, and a label map. Returns the folder.

    Slices that are opened go to a cache of the test's own.
    """
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path / "cache"))

    def write(
        name, kinds=("flair", "t1", "t1ce", "t2"), pattern="{}_{}.nii.gz", labels=head[1], seg="seg", folder=None
    ):
        folder, rng = folder or tmp_path / "set" / name, np.random.default_rng(len(name))
        for kind in kinds:
            voxels = np.where(head[0], rng.integers(100, 900, head[0].shape), 0).astype(np.int16)
            write_nifti(folder / pattern.format(name, kind), voxels)
        if seg:
            write_nifti(folder / pattern.format(name, seg), labels)
        return tmp_path / "set"

    return write
