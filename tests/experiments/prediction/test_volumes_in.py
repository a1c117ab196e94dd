"""NIfTI volumes and BraTS cases, read back by nibabel alone."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from mrcnn.data import read_dataset
from mrcnn.data.readers.volumes.brats import REGIONS
from mrcnn.detections import Detections
from mrcnn.phantoms import write_dataset

AFFINE = np.array([[0, 0, 0.8, -30], [0, -0.9, 0, 20], [2.5, 0, 0, 7], [0, 0, 0, 1.0]])


@pytest.fixture
def volume(tmp_path):
    """A volume that is stored slice first, back to front, right to left; its box of 150 and what lies in it."""
    voxels = np.zeros((5, 40, 56), np.int16)
    voxels[1:3, 8:20, 10:25] = 150
    voxels[2, 10:12, 12:15] = 220
    nibabel.Nifti1Image(voxels, AFFINE).to_filename(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz", voxels


def test_a_label_map_lies_where_its_volume_does(predicted, volume):
    path, voxels = volume
    report, record = predicted(path, forms=("nifti", "overlay", "splash"))
    assert report.problems == []
    written = nibabel.load(record.folder / "nifti/scan.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), (voxels == 150) + 2 * (voxels == 220))
    assert b"research use only" in written.header["descrip"].tobytes()
    frames = json.loads((record.folder / "json/scan.json").read_text())["frames"]
    assert [(frame["frame"], len(frame["instances"])) for frame in frames] == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 0)]
    for form in ("overlay", "splash"):
        assert (record.folder / form / "scan.png").exists()
    assert predicted(path, forms=("nifti", "overlay", "splash"))[0].skipped == 1


def test_instances_of_neighboring_slices_are_one_object(predicted, volume):
    path, voxels = volume
    _, record = predicted(path, forms=("objects",))
    written = nibabel.load(record.folder / "objects/scan.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    # The box is object 1 in both of its slices; the square within it, of another class, is object 2.
    np.testing.assert_array_equal(np.asarray(written.dataobj), (voxels == 150) + 2 * (voxels == 220))
    frames = json.loads((record.folder / "json/scan.json").read_text())["frames"]
    found = [{each["class"]: each["object"] for each in frame["instances"]} for frame in frames]
    assert found == [{}, {"dim": 1}, {"dim": 1, "bright": 2}, {}, {}]


def test_objects_in_too_few_slices_are_left_out(predicted, volume, squares):
    path, voxels = volume
    _, record = predicted(path, forms=("nifti",), detector=replace(squares, min_slices=2))
    written = nibabel.load(record.folder / "nifti/scan.nii.gz")
    # The bright square is in one slice alone.
    np.testing.assert_array_equal(np.asarray(written.dataobj), voxels == 150)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_dataset("brats", tmp_path_factory.mktemp("heads") / "cases", images=10, seed=1)


@pytest.fixture
def recorder(squares):
    """A predictor of volumes that keeps the images it is given, and finds the whole of each as nested regions."""
    seen = []

    def find(images):
        seen.extend(images)
        made = []
        for image in images:
            masks = np.zeros((2, *image.shape[:2]), bool)
            masks[0, 10:30, 12:40] = True
            masks[1, 12:16, 20:28] = True
            box = np.array([[12, 10, 40, 30], [20, 12, 28, 16]], np.float32)
            made.append(Detections(box, np.array([0.9, 0.8], np.float32), np.array([1, 3], np.int32), masks))
        return made

    made = replace(squares, find=find, class_names=REGIONS, channels=2, volumes=True, modalities=("t1ce", "flair"))
    return made, seen


def test_the_model_sees_of_a_case_what_it_saw_in_training(predicted, cases, recorder, tmp_path):
    detector, seen = recorder
    dataset = read_dataset(cases, "volumes", modalities=("t1ce", "flair"))
    name = dataset.records[0].place.volume
    mine = [index for index, record in enumerate(dataset.records) if record.place.volume == name]
    folder = dataset.records[0].path.parent
    report, record = predicted(folder, detector=detector, forms=("nifti",))
    assert report.problems == []
    assert len(seen) == len(mine)
    for image, index in zip(seen, mine, strict=True):
        np.testing.assert_array_equal(image, dataset[index].image)

    (path,) = (record.folder / "nifti").iterdir()
    written, source = nibabel.load(path), nibabel.load(dataset.records[0].path)
    np.testing.assert_array_equal(written.affine, source.affine)
    codes = {"brats2018": 4, "brats2023": 3}[("brats2018", "brats2023")[name.startswith("BraTS-")]]
    values, counts = np.unique(np.asarray(written.dataobj), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        0: np.prod(source.shape) - len(mine) * 20 * 28, 2: len(mine) * (20 * 28 - 32), codes: len(mine) * 32,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"modalities": None, "channels": 9},
            "this model takes 9 modalities without saying which; expected --modalities",
        ),
        ({"volumes": False}, "this model takes one image; name the file"),
    ],
)
def test_a_case_that_does_not_fit_the_model(predicted, cases, recorder, changes, told):
    folder = read_dataset(cases).records[0].path.parent
    report, _ = predicted(folder, detector=replace(recorder[0], **changes))
    assert len(report.problems) == 1 and told in report.problems[0]


def test_a_missing_modality_and_a_single_file_are_told(predicted, cases, recorder, tmp_path):
    source = read_dataset(cases).records[0].path
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "p_flair.nii.gz").symlink_to(source)
    report, _ = predicted(tmp_path / "p", detector=recorder[0])
    assert report.problems == ["p: has no t1ce; this model takes t1ce, flair"]
    report, _ = predicted(source, detector=recorder[0])
    assert "is one volume; this model takes t1ce, flair; expected the folder of a case" in report.problems[0]


def test_a_model_of_volumes_refuses_pictures(predicted, pictures, recorder):
    report, _ = predicted(pictures / "0.png", detector=recorder[0])
    assert report.problems[0].startswith("0.png: this model was trained on volumes")
