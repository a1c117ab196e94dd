"""Select the images to annotate next: where a model is unsure, and unlike the images that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from mrcnn.data.transforms.encoding import prepare_image

if TYPE_CHECKING:
    from mrcnn.models import MaskRCNN

_BLOCK = 4096  # images compared at once


def score_entropy(scores: np.ndarray) -> float:
    """Compute how unsure a model is of an image: the sum of the binary entropies of its detections, in bits.

    A score of 0.5 counts 1, a score of 0 or 1 counts 0, an image without detections counts 0. The sum is
    one of the aggregations over detections that Brust et al. 2018 (Active Learning for Deep Object Detection) compare.

    Args:
        scores: (N,) scores of all detections, not only of those above the operating point.

    Example:
        >>> score_entropy(np.array([0.5, 0.5, 1.0]))
        2.0
    """
    p = np.clip(np.asarray(scores, np.float64), 1e-12, 1 - 1e-12)
    return round(float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum()), 6)


def embed_images(network: MaskRCNN, images: Sequence[np.ndarray]) -> np.ndarray:
    """Describe images by the mean of the deepest feature map of a network: (N, C) float32 of length 1.

    Features of the task's own network tell apart what matters to it, as in Sener and Savarese 2018 (Active Learning for
    Convolutional Neural Networks: A Core-Set Approach).

    Args:
        network: trained model.
        images: arrays (H, W, C) of any size.
    """
    pixels = np.stack([prepare_image(image, network.config)[0] for image in images])
    features = np.asarray(network.backbone.predict_on_batch(pixels)[-1], np.float32).mean(axis=(1, 2))
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def nearest_distances(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return (N,) the distance, 0 … 2, of each of N features to the nearest of M known ones; 2 if there are none."""
    most_alike = np.full(len(features), -1.0, np.float32)
    for start in range(0, len(known), _BLOCK):
        np.maximum(most_alike, (features @ known[start : start + _BLOCK].T).max(axis=1), out=most_alike)
    return np.sqrt(np.maximum(2 - 2 * most_alike, 0))


def select_images(
    uncertainty: np.ndarray, features: np.ndarray, known: np.ndarray, groups: np.ndarray, count: int
) -> list[int]:
    """Select images one after another by the sum of two ranks: uncertainty, and distance to the nearest known image.

    A selected image counts as known for the next ones (k-center-greedy of Sener and Savarese 2018), and no other image
    of its group of near-duplicates is selected.

    Args:
        uncertainty: (N,).
        features: (N, C) of length 1; see `embed_images`.
        known: (M, C) of the annotated images.
        groups: (N,) groups of near-duplicates.
        count: images to select.

    Returns:
        At most `count` positions, the most useful first.

    Example:
        >>> uncertainty, features = np.array([0.1, 0.9, 0.8]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> select_images(uncertainty, features, np.array([[1.0, 0.0]]), np.array([0, 1, 2]), 2)
        [2, 1]
    """
    unsure, distance = rankdata(uncertainty), nearest_distances(features, known)
    available = np.ones(len(features), bool)
    chosen: list[int] = []
    while len(chosen) < count and available.any():
        value = np.where(available, unsure + rankdata(distance), -1)
        best = int(value.argmax())
        chosen.append(best)
        available &= groups != groups[best]
        distance = np.minimum(distance, nearest_distances(features, features[best : best + 1]))
    return chosen
