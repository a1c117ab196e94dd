"""Weight files of other implementations with seeded numbers."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


def load_neighbor(name: str):
    """Import a module of this folder; the tests are not a package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def matterport_file():
    """Return the module `matterport_file`."""
    return load_neighbor("matterport_file")


@pytest.fixture(scope="session")
def seeded_h5(matterport_file, tmp_path_factory):
    """Write a ResNet-50 file in matterport's layout with four classes."""
    path = tmp_path_factory.mktemp("matterport") / "mask_rcnn_seeded.h5"
    matterport_file.write_matterport_file(path, backbone="resnet50", classes=5)
    return path


@pytest.fixture(scope="session")
def seeded_tensors():
    """Return a state dict of torchvision's maskrcnn_resnet50_fpn with four classes."""
    return dict(load_neighbor("torchvision_file").tensors(5))


@pytest.fixture(scope="session")
def agree():
    """Return `assert_same_detections`."""
    return assert_same_detections


def assert_same_detections(found, expected, boxes, atol: float):
    """Compare the number, order, classes, scores, boxes and masks of detections with a reference."""
    assert len(found) == len(expected["scores"]) > 40
    np.testing.assert_array_equal(found.class_ids, expected["class_ids"])
    np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found.boxes, boxes, atol=atol)
    masks = np.unpackbits(expected["masks"], axis=1)[:, : found.masks[0].size].reshape(found.masks.shape).astype(bool)
    union = (found.masks | masks).sum(axis=(1, 2))
    iou = (found.masks & masks).sum(axis=(1, 2)) / np.maximum(union, 1)
    assert iou[union > 0].min() >= 0.98
    assert np.median(masks.sum(axis=(1, 2))) > 200  # not trivially equal
