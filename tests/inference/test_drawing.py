from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageDraw

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.inference import drawing as draw

NAMES = ("iso", "hypo")
GRAY = np.random.default_rng(0).integers(0, 200, (400, 600), np.uint8)


def square(y1, x1, y2, x2, shape=(400, 600)):
    mask = np.zeros((1, *shape), bool)
    mask[0, y1:y2, x1:x2] = True
    return mask


def ids(*values):
    return np.array(values, np.int32)


@contextmanager
def recorded():
    """Record (text, text box, size of the picture or strip) of all texts in order."""
    found, original = [], ImageDraw.ImageDraw.text

    def text(pen, position, label, *, font, fill):
        found.append((label, pen.textbbox(position, label, font=font), pen.im.size))
        original(pen, position, label, font=font, fill=fill)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageDraw.ImageDraw, "text", text)
        yield found


def test_outline_has_the_class_color_and_other_pixels_are_unchanged(monkeypatch):
    monkeypatch.setattr(draw, "_write_labels", lambda *_: None)
    mask = square(100, 200, 180, 320)
    picture = draw.overlay(GRAY, mask, ids(2), NAMES)
    assert picture.shape == (400, 600, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[~mask[0]], np.stack([GRAY[~mask[0]]] * 3, -1))
    outline = np.concatenate(
        [picture[100, 200:320], picture[179, 200:320], picture[100:180, 200], picture[100:180, 319]]
    )
    assert (outline == draw.PALETTE[1]).all()
    # A quarter of the color and three quarters of the image, worked out for one pixel.
    expected = np.rint(0.75 * float(GRAY[140, 260]) + 0.25 * np.array(draw.PALETTE[1]))
    np.testing.assert_array_equal(picture[140, 260], expected)


def test_arguments_are_not_modified():
    image, mask = GRAY.copy(), square(100, 200, 180, 320)
    draw.overlay(image, mask, ids(1), NAMES)
    np.testing.assert_array_equal(image, GRAY)
    assert mask.sum() == 80 * 120


def test_small_instance_within_a_large_one_is_visible(monkeypatch):
    monkeypatch.setattr(draw, "_write_labels", lambda *_: None)
    masks = np.concatenate([square(150, 250, 160, 260), square(100, 200, 200, 320)])
    picture = draw.overlay(GRAY, masks, ids(1, 2), NAMES)
    assert (picture[150, 250:260] == draw.PALETTE[0]).all()


def test_without_instances_the_picture_is_the_image():
    nothing = np.zeros((0, 400, 600), bool)
    np.testing.assert_array_equal(draw.overlay(GRAY, nothing, ids(), NAMES), np.stack([GRAY] * 3, -1))
    predicted = draw.overlay(GRAY, nothing, ids(), NAMES, scores=np.zeros(0))
    np.testing.assert_array_equal(predicted[:400], np.stack([GRAY] * 3, -1))


def test_predictions_have_a_footer_below_the_picture():
    mask = square(100, 200, 180, 320)
    truth = draw.overlay(GRAY, mask, ids(1), NAMES)
    predicted = draw.overlay(GRAY, mask, ids(1), NAMES, scores=np.array([0.9]))
    assert truth.shape[0] == 400 and predicted.shape[0] > 412
    footer = predicted[400:]
    assert (footer == footer.max(2, keepdims=True)).all(2).mean() > 0.8  # gray: a dark strip with light letters
    assert footer.max() > 200 and np.median(footer) < 40
    assert all((footer == color).all(2).any() for color in draw.PALETTE[:2])  # the legend


def test_empty_masks_and_single_pixels_are_legal():
    masks = np.concatenate([square(0, 0, 0, 0), square(399, 599, 400, 600)])
    picture = draw.overlay(GRAY, masks, ids(1, 2), NAMES, scores=np.array([0.5, 0.4]))
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


@settings(max_examples=40)
@given(st.integers(100, 700), st.integers(100, 700), *[st.floats(0, 1)] * 3, st.integers(1, 120))
def test_labels_stay_inside_the_picture(height, width, y, x, size, letters):
    y1, x1 = int(y * (height - 1)), int(x * (width - 1))
    y2, x2 = y1 + 1 + int(size * (height - y1 - 1)), x1 + 1 + int(size * (width - x1 - 1))
    mask = square(y1, x1, y2, x2, (height, width))
    with recorded() as texts:
        draw.overlay(np.zeros((height, width)), mask, ids(1), ("n" * letters,), scores=np.array([0.5]))
    # The label, the footer and the legend, each on its own picture.
    assert len(texts) == 3 and texts[1][0] == draw.FOOTER
    for _, (left, top, right, bottom), size in texts:
        assert left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1]


def test_labels_show_class_and_score_and_do_not_cover_each_other_or_other_instances():
    masks = np.concatenate([square(100, 100, 140, 140), square(144, 100, 180, 150)])
    with recorded() as texts:
        draw.overlay(GRAY, masks, ids(1, 2), NAMES, scores=np.array([0.5, 0.876]))
    labels = dict(text[:2] for text in texts[:2])
    assert set(labels) == {"iso 0.50", "hypo 0.88"}
    above, below = labels["iso 0.50"], labels["hypo 0.88"]
    assert above[3] <= 100 and below[1] >= 180


def test_many_instances_are_all_drawn_and_labels_leave_the_picture_visible():
    rng = np.random.default_rng(1)
    corners = rng.integers(0, 380, 200), rng.integers(0, 580, 200)
    masks = np.concatenate([square(y, x, y + 12, x + 12) for y, x in zip(*corners, strict=True)])
    scores = rng.random(200)
    with recorded() as texts:
        draw.overlay(GRAY, masks, rng.integers(1, 3, 200), NAMES, scores=scores)
    labels = [text for text in texts if text[2] == (600, 400)]
    boxes = [box for _, box, _ in labels]
    assert 5 < len(boxes) < 60
    assert sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes) < 0.12 * 600 * 400
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        assert not any(x1 < d and c < x2 and y1 < f and e < y2 for c, e, d, f in boxes[index + 1 :])
    assert labels[0][0].endswith(f"{scores.max():.2f}")  # the best first


def test_font_has_accents():
    font = draw._font(600)
    missing = font.getmask("\uffff").getbbox(), bytes(font.getmask("\uffff"))
    assert all((font.getmask(letter).getbbox(), bytes(font.getmask(letter))) != missing for letter in "óãçñßéüł")


def test_wrong_mask_size_is_rejected():
    with pytest.raises(ValueError, match=r"masks are \(1, 40, 60\), expected \(1, 400, 600\)"):
        draw.overlay(GRAY, square(0, 0, 9, 9, (40, 60)), ids(1), NAMES)


def test_side_by_side_shows_truth_on_the_left_and_prediction_on_the_right_and_marks_both():
    # The first instance is found; the second is missed, and a false detection lies elsewhere.
    truth = np.concatenate([square(100, 100, 200, 200), square(20, 400, 60, 460)])
    found = np.concatenate([square(300, 300, 380, 400), square(102, 100, 200, 200)])
    sample = Sample(GRAY[..., None], truth, ids(1, 2), "p", "s")
    boxes = np.array([[300, 300, 400, 380], [100, 102, 200, 200]], np.float32)
    detections = Detections(boxes, np.array([0.9, 0.8], np.float32), ids(2, 1), found)
    assert draw.match_marks(sample, detections, 2) == (["", draw.MISSED], [draw.FALSE, draw.TRUE])
    with recorded() as texts:
        picture = draw.side_by_side(sample, detections, NAMES)
    labels, titles = [text[0] for text in texts[:4]], texts[4:6]
    assert labels == ["iso", "missed: hypo", "false: hypo 0.90", "true: iso 0.80"]
    assert [text[0].partition(" (")[0] for text in titles] == ["truth", "prediction"]
    gap = picture.shape[1] - 2 * 600
    assert 0 < gap < 40 and titles[1][1][0] >= 600 + gap
    top = titles[0][2][1]  # height of the title strip
    panels = picture[top : top + 400]
    left, right = panels[:, :600], panels[:, 600 + gap :]
    first, second = draw.PALETTE[:2]
    assert (left[150:200, 100] == first).all() and (right[150:200, 100] == first).all()  # a continuous outline
    dashes = (right[300:380, 300] == second).all(axis=1)
    assert 0.3 < dashes.mean() < 0.7
    np.testing.assert_array_equal(left[210:], np.stack([GRAY[210:]] * 3, -1))
    assert picture.shape[0] > top + 400


def test_a_detection_in_a_crowd_is_neither_true_nor_false():
    crowd = square(100, 100, 300, 300)
    nothing = np.zeros((0, 400, 600), bool)
    sample = Sample(GRAY[..., None], nothing, ids(), "p", "s", crowd_masks=crowd, crowd_ids=ids(1))
    boxes = np.array([[150, 150, 200, 200]], np.float32)
    inside = Detections(boxes, np.array([0.9], np.float32), ids(1), square(150, 150, 200, 200))
    assert draw.match_marks(sample, inside, 1) == ([], [""])


def test_side_by_side_without_instances():
    sample = Sample(np.zeros((50, 60, 3), np.uint8), np.zeros((0, 50, 60), bool), ids(), "p", "s")
    picture = draw.side_by_side(sample, Detections.empty(50, 60), NAMES)
    assert picture.shape[1] > 2 * draw.MIN_WIDTH


def test_contact_sheet_arranges_images_in_rows():
    red = np.zeros((10, 20, 3), np.uint8)
    red[..., 0] = 255
    sheet = draw.contact_sheet([red, GRAY[:30, :15], red], columns=2)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert 60 <= sheet.shape[0] < 100 and 40 <= sheet.shape[1] < 60  # two rows of 30, two columns of 20, and a gap
    np.testing.assert_array_equal(sheet[:10, :20], red)
    np.testing.assert_array_equal(sheet[-30:-20, :20], red)
    np.testing.assert_array_equal(sheet[:30, -20:-5], np.stack([GRAY[:30, :15]] * 3, -1))
    assert draw.contact_sheet([], 3).ndim == 3
    assert draw.contact_sheet([red], 3).shape == (10, 20, 3)
    with pytest.raises(ValueError, match="columns=0"):
        draw.contact_sheet([red], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16, np.float64])
def test_other_types_are_windowed_between_percentiles(dtype):
    image = np.arange(1000, dtype=dtype).reshape(20, 50)
    image[0, 0] = 30000  # one outlier does not darken the rest
    shown = draw.to_display(image)[..., 0]
    assert shown.dtype == np.uint8
    # 1st and 99th percentile of 1 … 999 and 30000 are close to 11 and 990.
    assert shown[10, 0] == pytest.approx(255 * (500 - 11) / 979, abs=2)
    assert shown[0, 0] == 255 and shown[0, 5] == 0 and shown[19, 49] == 255


def test_constant_and_missing_values_are_shown():
    assert (draw.to_display(np.full((5, 6), 3.5)) == 0).all()
    image = np.zeros((40, 50), np.float32)
    image[0, 0], image[0, 1], image[0, 2] = np.nan, np.inf, 1.0
    shown = draw.to_display(image)[..., 0]
    assert shown[0, 0] == 0 and shown[0, 1] == 255 and shown[0, 2] == 255 and shown[1:].max() == 0
    assert (draw.to_display(np.full((5, 6), np.nan)) == 0).all()


@pytest.mark.parametrize(("channels", "expected"), [(1, [7, 7, 7]), (2, [7, 7, 7]), (3, [7, 8, 9]), (4, [7, 7, 7])])
def test_three_channels_are_colors_and_otherwise_the_first_is_shown(channels, expected):
    image = np.broadcast_to(np.arange(7, 7 + channels, dtype=np.uint8), (4, 5, channels))
    np.testing.assert_array_equal(draw.to_display(image)[2, 2], expected)


def test_colors_repeat_after_the_palette():
    assert draw.class_color(1) == draw.PALETTE[0] == draw.class_color(1 + len(draw.PALETTE))
    assert len(set(draw.PALETTE)) == len(draw.PALETTE)
