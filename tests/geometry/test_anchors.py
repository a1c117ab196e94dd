import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrcnn.config import ModelConfig
from mrcnn.geometry.anchors import anchor_grid, anchor_shapes, best_iou, fit_anchors


def test_grid_by_hand():
    config = ModelConfig(
        class_names=("a",), image_size=64, anchor_sizes=((8,), (16,), (32,), (64,), (128,)), anchor_ratios=(1.0, 4.0)
    )
    grid = anchor_grid(config)
    # 16² + 8² + 4² + 2² + 1 cells, two anchors each.
    assert grid.shape == ((256 + 64 + 16 + 4 + 1) * 2, 4)
    np.testing.assert_allclose(grid[0], [-2, -2, 6, 6])  # cell (0, 0) of stride 4: center (2, 2)
    np.testing.assert_allclose(grid[1], [0, -6, 4, 10])  # ratio 4: half as wide, twice as high, the same area
    np.testing.assert_allclose(grid[2], [2, -2, 10, 6])  # columns run before rows
    np.testing.assert_allclose(grid[-2], [-32, -32, 96, 96])  # the one cell of P6


def test_shapes_preserve_the_area():
    shapes = anchor_shapes((10, 20), (0.5, 1, 3))
    np.testing.assert_allclose(shapes.prod(-1), [100] * 3 + [400] * 3, rtol=1e-5)
    np.testing.assert_allclose(shapes[:, 1] / shapes[:, 0], [0.5, 1, 3] * 2, rtol=1e-5)


def test_best_iou_is_that_of_the_whole_grid():
    rng = np.random.default_rng(0)
    corner = rng.uniform(20, 60, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 45, (20, 2))], axis=1)
    sizes, ratios = ((8,), (16,), (24,), (40,), (70,)), (0.6, 1.0, 1.8)
    config = ModelConfig(class_names=("a",), image_size=128, anchor_sizes=sizes, anchor_ratios=ratios)
    grid = anchor_grid(config).astype(np.float64)
    low = np.maximum(boxes[:, None, :2], grid[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], grid[None, :, 2:])
    overlap = np.maximum(high - low, 0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, grid)]
    expected = (overlap / (areas[0][:, None] + areas[1][None] - overlap)).max(-1)
    np.testing.assert_allclose(best_iou(boxes, sizes, ratios), expected, rtol=1e-5)


def test_fit_beats_the_general_default_on_wide_boxes():
    rng = np.random.default_rng(0)
    sides = np.exp(rng.normal(np.log(25), 0.4, (300, 1))) * np.array([[1.6, 0.7]])
    corner = rng.uniform(0, 180, (300, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    fit = fit_anchors(boxes)
    default = best_iou(boxes, ((32,), (64,), (128,), (256,), (512,)), (0.5, 1, 2)).mean()
    assert fit.mean_best_iou > default + 0.05
    assert fit.mean_best_iou == pytest.approx(best_iou(boxes, fit.sizes, fit.ratios).mean())
    assert fit.recall > 0.9
    np.testing.assert_allclose(fit.ratios, 0.7 / 1.6, atol=0.01)
    assert [len(level) for level in fit.sizes] == [1] * 5
    assert list(fit.sizes) == sorted(fit.sizes)


@pytest.mark.parametrize("boxes", [np.zeros((0, 4)), np.array([[0, 0, 5, 5]]), np.zeros((3, 4))])
def test_too_few_boxes_to_fit(boxes):
    assert fit_anchors(boxes) is None


@given(st.lists(st.tuples(st.floats(1, 500), st.floats(1, 500)), min_size=2, max_size=30))
def test_fit_is_always_a_valid_configuration(sides):
    fit = fit_anchors(np.array([(0, 0, w, h) for w, h in sides]))
    ModelConfig(class_names=("a",), anchor_sizes=fit.sizes, anchor_ratios=fit.ratios)
    assert 0 <= fit.mean_best_iou <= 1
