import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.geometry.roi_align import crop_and_resize, rounded_levels

SIZE = 64


def pyramid(rng):
    return [rng.normal(size=(2, SIZE // s, SIZE // s, 3)).astype(np.float32) for s in (4, 8, 16, 32)]


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the independent answer is TensorFlow's")
def test_equals_tensorflow():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (2, 9, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 13, (2, 9, 2))], axis=-1).astype(np.float32)
    features = pyramid(rng)
    for canonical, level in ((224, 0), (30, 1)):
        boxes_here = boxes if level == 0 else np.full_like(boxes, 0) + np.float32([3, 5, 14, 15])
        pooled = ops.convert_to_numpy(crop_and_resize(features, boxes_here, SIZE, 7, canonical_size=canonical))
        for image in range(2):
            normalized = boxes_here[image][:, [1, 0, 3, 2]] / (SIZE - 1)
            expected = tf.image.crop_and_resize(features[level], normalized, [image] * 9, (7, 7))
            np.testing.assert_allclose(pooled[image], expected, atol=1e-4)


def test_the_whole_image_samples_the_corners():
    features = pyramid(np.random.default_rng(1))
    boxes = np.float32([[[0, 0, SIZE - 1, SIZE - 1]]] * 2)
    pooled = ops.convert_to_numpy(crop_and_resize(features, boxes, SIZE, 2, canonical_size=SIZE))
    corners = features[2][:, [0, -1]][:, :, [0, -1]]
    np.testing.assert_allclose(pooled[:, 0], corners, atol=1e-5)


def test_levels_are_rounded():
    # √2 times the canonical size lies half-way between two levels.
    sides = np.float32([0, 30, 150, 165, 300, 330, 9000])
    boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=-1)[None]
    levels = ops.convert_to_numpy(rounded_levels(boxes, 4, 10**6, 224.0))
    assert levels[0].tolist() == [0, 0, 1, 2, 2, 3, 3]
