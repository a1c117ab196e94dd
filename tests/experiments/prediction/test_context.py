"""Prediction by a model that sees each slice with its neighbors: which pixels it is given."""

import nibabel
import numpy as np
import pytest
from PIL import Image

from experiments.api import Model
from experiments.prediction.detector import Detector
from mrcnn.detections import Detections


@pytest.fixture
def recorder():
    """A detector of gray slices and one neighbor on each side, and the pixels (previous, present, next) it has seen."""
    seen = []

    def find(images):
        seen.extend(image[0, 0].tolist() for image in images)
        return [Detections.empty(*image.shape[:2]) for image in images]

    return Detector(find, ("dim", "bright"), channels=1, confidence=0.5, digest="d" * 64, context_slices=1), seen


@pytest.fixture
def numbered(tmp_path):
    """A folder of slices of one gray level: 2, 9 and 10 of one scan, in color files, one of another, and no slice."""
    (tmp_path / "scan").mkdir()
    for name, level in (("a_2", 20), ("a_9", 90), ("a_10", 100), ("b_3", 33), ("overview", 7)):
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(tmp_path / "scan" / f"{name}.png")
    return tmp_path / "scan"


def test_numbered_images_of_a_folder_are_neighbors_and_others_their_own(predicted, numbered, recorder):
    detector, seen = recorder
    report, _ = predicted(numbered, detector=detector)
    assert report.problems == [] and (report.predicted, report.alone) == (5, 2)
    # In the order of the names.
    assert np.round(seen).tolist() == [[90, 100, 100], [20, 20, 90], [20, 90, 100], [33] * 3, [7] * 3]
    assert predicted(numbered, detector=detector)[0].skipped == 5
    # Its neighbors are predicted again when a slice has changed, and nothing else is.
    Image.fromarray(np.full((8, 8), 50, np.uint8)).save(numbered / "a_2.png")
    report, _ = predicted(numbered, detector=detector)
    assert (report.predicted, report.skipped) == (2, 3)
    assert np.round(seen[5:]).tolist() == [[50, 50, 90], [50, 90, 100]]


def test_slices_of_a_volume_are_neighbors(predicted, tmp_path, recorder):
    detector, seen = recorder
    nibabel.Nifti1Image(np.tile(np.int16([1, 2, 3, 4]), (6, 5, 1)), np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    report, _ = predicted(tmp_path / "v.nii.gz", detector=detector)
    assert report.problems == [] and report.alone == 0
    assert seen == [[1, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 4]]


def test_an_image_alone_is_its_own_neighbor_with_a_warning(recorder):
    detector, seen = recorder
    with pytest.warns(UserWarning, match="an image alone is its own neighbor"):
        Model("m", detector).predict(np.full((8, 8), 9, np.uint8))
    assert seen == [[9, 9, 9]]
