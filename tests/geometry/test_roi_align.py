import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.geometry.roi_align import assign_levels, roi_align, weighted_rows


def one_level(feature, boxes, size, stride=1.0, sampling=2):
    feature = np.asarray(feature, np.float32)[None, ..., None]
    pooled = roi_align([feature], np.asarray(boxes, np.float32)[None], [stride], size, sampling=sampling)
    return ops.convert_to_numpy(pooled)[0, ..., 0]


def brute_force(feature, box, size, stride, sampling=2):
    """Compute RoIAlign by its definition: the mean of bilinear samples on a regular grid in each bin."""
    height, width = feature.shape
    x1, y1, x2, y2 = (v / stride for v in box)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            total = 0.0
            for a in range(sampling):
                for b in range(sampling):
                    y = y1 + (i + (a + 0.5) / sampling) * (y2 - y1) / size - 0.5
                    x = x1 + (j + (b + 0.5) / sampling) * (x2 - x1) / size - 0.5
                    if not (-1 < y < height and -1 < x < width):
                        continue
                    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                    r, c = min(int(y), height - 1), min(int(x), width - 1)
                    r2, c2 = min(r + 1, height - 1), min(c + 1, width - 1)
                    fy, fx = y - r, x - c
                    total += (
                        feature[r, c] * (1 - fy) * (1 - fx)
                        + feature[r, c2] * (1 - fy) * fx
                        + feature[r2, c] * fy * (1 - fx)
                        + feature[r2, c2] * fy * fx
                    )
            out[i, j] = total / sampling**2
    return out


def test_a_cell_returns_itself():
    # 5 × 5 ramp; the box is exactly cells (row 1 … 2, column 2 … 3), one bin a cell, one sample in its middle.
    ramp = np.arange(25).reshape(5, 5)
    np.testing.assert_allclose(one_level(ramp, [[2, 1, 4, 3]], 2, sampling=1)[0], [[7, 8], [12, 13]])


def test_half_a_cell_is_interpolated():
    # Shifted by half a cell each way: every sample is the mean of four cells, which on a ramp adds 0.5 + 2.5.
    ramp = np.arange(25).reshape(5, 5)
    np.testing.assert_allclose(one_level(ramp, [[1.5, 0.5, 3.5, 2.5]], 2, sampling=1)[0], [[4, 5], [9, 10]])


@pytest.mark.parametrize(
    "box",
    [
        [3.2, 4.7, 21.9, 17.3],
        [0, 0, 32, 32],
        [-6, -3, 10, 12],  # over the border
        [28, 28, 32, 32],
        [10, 10, 11, 11],  # one pixel
        [7, 3, 7, 20],  # no width
        [40, 40, 50, 60],  # outside
    ],
)
@pytest.mark.parametrize("sampling", [1, 2])
def test_against_brute_force(box, sampling):
    feature = np.random.default_rng(0).normal(size=(8, 8))
    expected = brute_force(feature, box, 7, 4.0, sampling)
    np.testing.assert_allclose(one_level(feature, [box], 7, stride=4.0, sampling=sampling)[0], expected, atol=1e-5)


def test_levels_by_the_formula():
    sides = np.array([10, 111, 112, 223, 224, 447, 448, 2000, 0], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1)
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 0]
    assert ops.convert_to_numpy(assign_levels(boxes, 4, 224.0)).tolist() == expected


def test_each_region_is_pooled_from_its_level_and_image():
    rng = np.random.default_rng(0)
    strides = [4, 8, 16, 32]
    features = [rng.normal(size=(2, 256 // s, 256 // s, 3)).astype(np.float32) for s in strides]
    boxes = np.array([[[5, 9, 60, 50], [0, 0, 130, 120], [10, 10, 250, 240]]] * 2, np.float32)
    boxes[1] += 3
    pooled = ops.convert_to_numpy(roi_align(features, boxes, strides, 7))
    for image in range(2):
        for region, level in enumerate([0, 1, 2]):
            for channel in range(3):
                expected = brute_force(features[level][image, ..., channel], boxes[image, region], 7, strides[level])
                np.testing.assert_allclose(pooled[image, region, ..., channel], expected, atol=1e-4)


def test_gradient_is_that_of_a_linear_function():
    """Pooling is linear in the features, so a directional difference equals the gradient times the direction."""
    rng = np.random.default_rng(0)
    strides = [4, 8]
    features = [rng.normal(size=(2, 64 // s, 64 // s, 3)).astype(np.float32) for s in strides]
    direction = [rng.normal(size=f.shape).astype(np.float32) for f in features]
    boxes = np.array([[[3, 4, 30, 40], [-8, 0, 64, 64]]] * 2, np.float32)
    weights = rng.normal(size=(2, 2, 7, 7, 3)).astype(np.float32)

    def score(levels):
        return ops.sum(roi_align(list(levels), boxes, strides, 7, canonical_size=64.0) * weights)

    if keras.backend.backend() == "jax":
        import jax

        gradient = jax.grad(score)(features)
    else:
        import tensorflow as tf

        levels = [tf.constant(f) for f in features]
        with tf.GradientTape() as tape:
            tape.watch(levels)
            value = score(levels)
        gradient = tape.gradient(value, levels)
    moved = [f + d for f, d in zip(features, direction, strict=True)]
    change = float(score(moved)) - float(score(features))
    along = sum(float((ops.convert_to_numpy(g) * d).sum()) for g, d in zip(gradient, direction, strict=True))
    assert change == pytest.approx(along, rel=1e-4)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="how JAX differentiates branches")
def test_gradient_in_a_branch_on_jax():
    import jax

    def score(table, weight):
        def rows(count):
            return lambda: ops.sum(weighted_rows(table, index[:count], weight[:count] * 1.0) ** 2)

        return ops.switch(ops.cast(ops.sum(table) > 0, "int32"), [rows(1), rows(3)])

    index = np.array([[0, 2], [1, 1], [2, 0]], np.int32)
    table = np.array([[1.0], [10.0], [100.0]], np.float32)
    weight = np.array([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]], np.float32)
    # Sums of 50.5, 10 and 25.75, each twice times its weights.
    gradient = jax.jit(jax.grad(score))(table, weight)
    np.testing.assert_allclose(gradient[:, 0], [50.5 + 1.5 * 25.75, 20, 50.5 + 0.5 * 25.75])
