import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrcnn import draw
from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from PIL import Image, ImageDraw

NAMES = ("iso", "hypo")
GREY = np.random.default_rng(0).integers(0, 200, (400, 600), np.uint8)


def square(y1, x1, y2, x2, shape=(400, 600)):
    mask = np.zeros((1, *shape), bool)
    mask[0, y1:y2, x1:x2] = True
    return mask


def ids(*values):
    return np.array(values, np.int32)


@pytest.fixture
def written(monkeypatch):
    """Boxes and texts of the labels that are written, (x1, y1, x2, y2) with x2 and y2 exclusive, in order."""
    found = []
    monkeypatch.setattr(draw, "_ink_on", lambda colour: (1, 2, 3))
    original = ImageDraw.ImageDraw.text

    def text(pen, position, label, *, font, fill):
        if fill == (1, 2, 3):
            bounds = pen.textbbox(position, label, font=font)
            found.append((bounds, label, pen.im.size))
        original(pen, position, label, font=font, fill=fill)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


def test_pixels_outside_are_the_images_and_the_outline_has_the_colour_of_the_class(monkeypatch):
    monkeypatch.setattr(draw, "_write_labels", lambda *_: None)
    mask = square(100, 200, 180, 320)
    picture = draw.overlay(GREY, mask, ids(2), NAMES)
    assert picture.shape == (400, 600, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[~mask[0]], np.stack([GREY[~mask[0]]] * 3, -1))
    outline = np.concatenate([picture[100, 200:320], picture[179, 200:320], picture[100:180, 200], picture[100:180, 319]])
    assert (outline == draw.PALETTE[1]).all()
    # A quarter of the colour and three quarters of the image, worked out for one pixel.
    expected = np.rint(0.75 * float(GREY[140, 260]) + 0.25 * np.array(draw.PALETTE[1]))
    np.testing.assert_array_equal(picture[140, 260], expected)


def test_the_given_arrays_stay_as_they_are():
    image, mask = GREY.copy(), square(100, 200, 180, 320)
    draw.overlay(image, mask, ids(1), NAMES)
    np.testing.assert_array_equal(image, GREY)
    assert mask.sum() == 80 * 120


def test_a_small_instance_within_a_large_one_stays_visible(monkeypatch):
    monkeypatch.setattr(draw, "_write_labels", lambda *_: None)
    masks = np.concatenate([square(150, 250, 160, 260), square(100, 200, 200, 320)])
    picture = draw.overlay(GREY, masks, ids(1, 2), NAMES)
    assert (picture[150, 250:260] == draw.PALETTE[0]).all()


def test_without_instances_the_picture_is_the_image():
    nothing = np.zeros((0, 400, 600), bool)
    np.testing.assert_array_equal(draw.overlay(GREY, nothing, ids(), NAMES), np.stack([GREY] * 3, -1))
    predicted = draw.overlay(GREY, nothing, ids(), NAMES, scores=np.zeros(0))
    np.testing.assert_array_equal(predicted[:400], np.stack([GREY] * 3, -1))


def test_predictions_carry_a_footer_below_the_picture():
    mask = square(100, 200, 180, 320)
    truth = draw.overlay(GREY, mask, ids(1), NAMES)
    predicted = draw.overlay(GREY, mask, ids(1), NAMES, scores=np.array([0.9]))
    assert truth.shape[0] == 400 and predicted.shape[0] > 412
    footer = predicted[400:]
    assert (footer == footer.max(2, keepdims=True)).all(2).mean() > 0.8  # grey: a dark strip with light letters
    assert footer.max() > 200 and np.median(footer) < 40
    assert all((footer == colour).all(2).any() for colour in draw.PALETTE[:2])  # the legend


def test_empty_masks_and_single_pixels_are_legal():
    masks = np.concatenate([square(0, 0, 0, 0), square(399, 599, 400, 600)])
    picture = draw.overlay(GREY, masks, ids(1, 2), NAMES, scores=np.array([0.5, 0.4]))
    assert tuple(picture[399, 599]) == draw.PALETTE[1]


def test_a_narrow_image_is_enlarged_with_its_masks_and_boxes():
    image = np.zeros((30, 64), np.uint8)
    mask = square(10, 20, 18, 30, (30, 64))
    picture = draw.overlay(image, mask, ids(1), NAMES, boxes=np.array([[2, 3, 40, 28]], np.float32))
    assert picture.shape == (240, 512, 3)  # eight times
    assert tuple(picture[80 + 1, 200]) == draw.PALETTE[0]
    # The box's frame: 8 · (2, 3) to 8 · (40, 28), the last row and column exclusive.
    for y, x in ((24, 100), (223, 100), (100, 16), (100, 319)):
        assert tuple(picture[y, x]) == draw.PALETTE[0]
    single = square(12, 33, 13, 34, (30, 64))
    assert (draw.overlay(image, single, ids(2), NAMES) == draw.PALETTE[1]).all(2).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 700), st.integers(4, 700), st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 1), st.integers(1, 40))
def test_labels_stay_inside_the_picture(height, width, y, x, size, letters):
    with pytest.MonkeyPatch.context() as patch:
        labels = written.__wrapped__(patch) if hasattr(written, "__wrapped__") else None
        y1, x1 = int(y * (height - 1)), int(x * (width - 1))
        y2, x2 = y1 + 1 + int(size * (height - y1 - 1)), x1 + 1 + int(size * (width - x1 - 1))
        draw.overlay(
            np.zeros((height, width), np.uint8), square(y1, x1, y2, x2, (height, width)), ids(1), ("n" * letters,),
            scores=np.array([0.5]),
        )
        for (left, top, right, bottom), _, (full_width, full_height) in labels:
            assert 0 <= left and 0 <= top and right <= full_width and bottom <= full_height


def test_a_read_only_colour_image_of_full_width_is_left_alone():
    image = np.full((300, 600, 3), 90, np.uint8)
    image.flags.writeable = False
    mask = np.zeros((1, 300, 600), bool)
    mask[0, 100:200, 200:400] = True
    picture = draw.overlay(image, mask, np.array([1]), ("nodule",))
    assert (picture[150, 300] != 90).any()
    assert (image == 90).all()
