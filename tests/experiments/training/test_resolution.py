import numpy as np
import pytest

from experiments.training.resolution import choose_canvas, dice_ceiling, needed_scale, outlines_decide


def test_the_ceiling_of_a_mask_by_hand():
    solid = np.ones((30, 50), bool)
    assert dice_ceiling([solid], 0.25, 28) == 1.0
    # Two lines of one pixel have two at half the size: 2 · 16 / (16 + 32).
    stripes = np.zeros((8, 8), bool)
    stripes[::4] = True
    assert dice_ceiling([stripes], 0.5, 28) == pytest.approx(2 / 3)
    assert dice_ceiling([stripes], 1.0, 28) == 1.0
    assert dice_ceiling([], 1.0, 28) == 1.0


def test_outlines_need_more_cells_than_a_small_mask_has():
    rows, columns = np.mgrid[:400, :400]
    teeth = (columns + 8 * np.sin(rows / 3) < 320) & (columns + 8 * np.sin(rows / 3) > 80)
    assert dice_ceiling([teeth], 1.0, 56) - dice_ceiling([teeth], 1.0, 28) > 0.005


@pytest.mark.parametrize(
    ("ceilings", "sides", "scale", "reason"),
    [
        ({0.25: 0.9, 0.5: 0.98, 1.0: 0.989}, [400, 400], 0.5, "0.5 times"),
        # 8 px and less for 5 %: 16 / 8.
        ({0.5: 0.98, 1.0: 0.981}, [8] * 10 + [100] * 90, 2.0, "5% of the instances are below 8 px"),
        # The median of 40 px: 44 / 40.
        ({0.5: 0.98, 1.0: 0.981}, [40] * 10, 1.1, "50% of the instances are below 40 px"),
        ({0.5: 0.9, 1.0: 0.981}, [1, 1], 2.0, "2 times"),
        ({1.0: 1.0}, [], 1.0, "1 times"),
    ],
)
def test_the_scale_follows_the_instances(ceilings, sides, scale, reason):
    found, why = needed_scale(ceilings, np.array(sides, float))
    assert found == pytest.approx(scale) and reason in why


@pytest.mark.parametrize(
    ("sizes", "scale", "pixels", "canvas"),
    [
        ([[256, 256]] * 3, 1.0, 512**2, (256, 256)),
        ([[256, 256]] * 3, 2.0, 512**2, (512, 512)),
        # Half of 720×1120 is 360×560: the next multiples of 32, and what the pixels allow.
        ([[720, 1120]] * 3, 0.5, 512**2, (384, 576)),
        ([[720, 1120]] * 3, 1.0, 352 * 544, (352, 544)),
        # As many of either orientation fit a square best.
        ([[300, 500], [500, 300]], 1.0, 512**2, (512, 512)),
        ([[10, 10]], 1.0, 512**2, (64, 64)),
    ],
)
def test_the_canvas_has_the_shape_of_the_images(sizes, scale, pixels, canvas):
    assert choose_canvas(np.array(sizes), scale, pixels) == canvas


def test_square_canvases():
    assert choose_canvas(np.array([[360, 560]]), 1.0, 320**2, square_only=True) == (320, 320)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([[1, 2]] * 9 + [[2]], True),
        ([[2, 1], [1, 2]], True),
        ([[1, 2]] * 8 + [[2], [1]], False),
        ([[]] * 10, False),
        ([], False),
    ],
)
def test_outlines_decide_where_all_images_show_the_same_instances(images, expected):
    assert outlines_decide([np.array(ids, np.int32) for ids in images]) == expected
    # A smaller loss asks for a larger scale.
    assert needed_scale({0.5: 0.985, 1.0: 0.99}, np.array([400.0]), 0.002)[0] == 1.0
