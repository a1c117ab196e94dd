import numpy as np
import pytest

from mrcnn.data.readers.volumes.brats import REGIONS
from mrcnn.detections import Detections
from mrcnn.inference.drawing import PALETTE, color_splash
from mrcnn.inference.label_map import to_label_map

LEFT = np.zeros((1, 4, 6), bool)
LEFT[:, :, :3] = True


def test_color_inside_and_luminance_outside():
    image = np.zeros((4, 6, 3), np.uint8)
    image[...] = (200, 100, 50)
    splash = color_splash(image, LEFT, np.array([1]))
    assert (splash[:, :3] == (200, 100, 50)).all()
    assert (splash[:, 3:] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert (image == (200, 100, 50)).all()  # the image itself is left alone


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_gray_image_gets_the_class_color_with_its_brightness(shape):
    splash = color_splash(np.full(shape, 120, np.uint8), LEFT, np.array([2]))
    red, green, blue = PALETTE[1]
    assert splash[0, 0].tolist() == [round(120 * red / blue), round(120 * green / blue), 120]
    assert (splash[:, 3:] == 120).all()


def test_smaller_instance_is_on_top_and_no_instances_are_gray():
    masks = np.stack([LEFT[0], LEFT[0]])
    masks[1, 1:] = False
    image = np.full((4, 6), 230, np.uint8)
    for order in ((0, 1), (1, 0)):
        splash = color_splash(image, masks[list(order)], np.array([1, 2])[list(order)])
        assert splash[0, 0].tolist() == [round(230 * each / 233) for each in PALETTE[1]]
        assert splash[2, 0].tolist() == [each for each in PALETTE[0]]
    assert (color_splash(image, masks[:0], np.zeros(0, int)) == 230).all()
    with pytest.raises(ValueError, match="masks are"):
        color_splash(image, masks[:, :2], np.array([1, 2]))


def test_label_map_takes_the_best_score_or_the_innermost_region():
    masks = np.stack([LEFT[0], LEFT[0]])
    masks[1, 2:] = False
    found = Detections(
        np.zeros((2, 4), np.float32), np.array([0.9, 0.4], np.float32), np.array([1, 2], np.int32), masks
    )
    assert to_label_map(found, ("a", "b"))[:, 0].tolist() == [1, 1, 1, 1]
    assert to_label_map(found, REGIONS)[:, 0].tolist() == [2, 2, 1, 1]
    assert to_label_map(Detections.empty(4, 6), ("a",)).dtype == np.uint8
    assert to_label_map(Detections.empty(4, 6), ("a",) * 300).dtype == np.uint16
