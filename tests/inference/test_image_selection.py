"""The selection of images to annotate."""

import doctest

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import entropy

from mrcnn.inference import image_selection
from mrcnn.inference.image_selection import nearest_distances, score_entropy, select_images


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_examples():
    assert doctest.testmod(image_selection).failed == 0


def test_entropy_and_distances_are_those_of_scipy():
    rng = np.random.default_rng(0)
    scores = rng.random(7)
    np.testing.assert_allclose(score_entropy(scores), entropy([scores, 1 - scores], base=2).sum(), atol=1e-5)
    assert score_entropy(np.zeros(0)) == 0
    features, known = unit(rng.normal(size=(9, 5))), unit(rng.normal(size=(4, 5)))
    np.testing.assert_allclose(nearest_distances(features, known), cdist(features, known).min(axis=1), atol=1e-3)
    assert nearest_distances(features, known[:0]).tolist() == [2] * 9


def test_one_image_of_a_group_and_of_each_cluster_comes_first():
    rng = np.random.default_rng(1)
    centers = unit(np.eye(4))
    cluster = np.arange(40) % 4
    features = unit(centers[cluster] + rng.normal(scale=0.02, size=(40, 4)))
    groups = np.arange(40)
    groups[36:] = 36  # near-duplicates of four clusters
    even = np.ones(40)
    chosen = select_images(even, features, centers[:1], groups, 3)
    assert sorted(cluster[chosen]) == [1, 2, 3]  # the annotated cluster is the last
    chosen = select_images(even, features, centers[:1], groups, 99)
    assert len(chosen) == 37 and len(set(groups[chosen])) == 37
    unsure = np.arange(40.0)
    assert select_images(unsure, np.tile(centers[:1], (40, 1)), centers[:1], np.arange(40), 3) == [39, 38, 37]
