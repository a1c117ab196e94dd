"""Network inputs against numbers worked out by hand and scikit-image's resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import draw, transform

from mrcnn.config import ModelConfig
from mrcnn.data import Sample, make_batch, prepare_image
from mrcnn.data.transforms.encoding import square
from mrcnn.errors import InputError
from mrcnn.geometry.anchors import anchor_grid
from mrcnn.instance_masks import Crop

RNG = np.random.default_rng(2)


def config(size=64, channels=1, **more):
    return ModelConfig(class_names=("one", "two"), image_size=size, channels=channels, **more)


def noise(height, width, channels, dtype=np.uint8):
    return RNG.integers(0, 256, (height, width, channels)).astype(dtype)


def sample(image, masks=(), class_ids=None):
    masks = np.array(masks, bool).reshape(-1, *image.shape[:2])
    return Sample(image, masks, np.array(class_ids or [1] * len(masks), np.int32), "p", "x.png")


def disc(shape, row, column, radius, ratio=1.0):
    mask = np.zeros(shape, bool)
    mask[draw.ellipse(row, column, radius, radius * ratio, shape=shape)] = True
    return mask


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (64, 64), (200, 130), (129, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_normalized_over_the_image_and_padded_with_zero(shape, dtype):
    image = noise(*shape, 3, dtype)
    prepared, letterbox = prepare_image(image, config(channels=3))
    assert prepared.shape == (64, 64, 3)
    assert prepared.dtype == np.float32
    assert letterbox.scale == 64 / max(shape)
    assert (letterbox.height, letterbox.width) == shape
    height, width = (int(side * 64 / max(shape) + 1e-6) for side in shape)
    inside = prepared[:height, :width]
    np.testing.assert_allclose(inside.mean((0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(inside.std((0, 1)), 1, atol=1e-3)
    assert not prepared[height:].any()
    assert not prepared[:, width:].any()


@pytest.mark.parametrize(("shape", "canvas"), [((30, 50), (64, 96)), ((200, 130), (96, 64)), ((64, 128), (64, 128))])
def test_a_rectangle_is_the_square_without_its_padding(shape, canvas):
    image, mask = noise(*shape, 3), disc(shape, 20, 25, 9)
    rectangle, whole = (
        make_batch([sample(image, [mask])], config(size, channels=3)) for size in (canvas, max(canvas))
    )  # fmt: skip
    np.testing.assert_array_equal(rectangle["image"][0], whole["image"][0, : canvas[0], : canvas[1]])
    assert not whole["image"][0, canvas[0] :].any() and not whole["image"][0, :, canvas[1] :].any()
    for name in ("boxes", "masks", "valid", "class_ids"):
        np.testing.assert_array_equal(rectangle[name], whole[name])
    letterbox = prepare_image(image, config(canvas, channels=3))[1]
    np.testing.assert_allclose(letterbox.to_original(rectangle["boxes"][0, :1])[0], [16, 11, 35, 30], atol=1)


def test_anchors_of_a_rectangle_are_those_of_the_square_within_it():
    rectangle, whole = (anchor_grid(config(size)) for size in ((64, 128), 128))
    centers = (whole[:, :2] + whole[:, 2:]) / 2
    np.testing.assert_array_equal(rectangle, whole[centers[:, 1] < 64])


@pytest.mark.parametrize("size", [(64, 100), 100, (32, 64), (64, 64, 64)])
def test_sizes_are_multiples_of_32(size):
    with pytest.raises(ValueError, match=r"multiple of 32|greater than or equal to 64|at most 2"):
        config(size)


def test_what_the_reader_has_normalized_stays():
    image = noise(64, 64, 4, np.float32) * 3 - 7
    prepared, _ = prepare_image(image, config(channels=4, normalisation="none"))
    np.testing.assert_array_equal(prepared, image)


def test_a_scanner_with_another_gain_gives_the_same_input():
    image = noise(40, 64, 1, np.float32)
    one, _ = prepare_image(image, config())
    other, _ = prepare_image(image * 37 + 1200, config())
    np.testing.assert_allclose(one, other, atol=1e-3)


@pytest.mark.parametrize("value", [0, 7, 255, np.float32(0.1), np.float32(54321.7)])
def test_a_constant_image_is_zeros(value):
    prepared, _ = prepare_image(np.full((50, 70, 1), value), config())
    assert not prepared.any()


def test_gray_two_dimensional_and_repeated():
    image = noise(40, 64, 1)
    flat, _ = prepare_image(image[..., 0], config(channels=3))
    deep, _ = prepare_image(np.repeat(image, 3, axis=-1), config(channels=3))
    np.testing.assert_allclose(flat, deep, atol=1e-5)


def test_color_to_luminance():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = (200, 100, 50)
    prepared, _ = prepare_image(image, config())
    np.testing.assert_allclose(prepared[:, 40:, 0], 1, atol=1e-4)  # two halves: −1 and 1
    left, right = np.array([[[90, 0, 0]]], np.uint8), np.array([[[0, 0, 90]]], np.uint8)
    both = np.tile(np.concatenate([left, right], axis=1), (64, 32, 1))
    assert prepare_image(both, config())[0][0, 0, 0] == pytest.approx(1, abs=1e-4)  # red is brighter than blue


def test_alpha_of_bytes_is_dropped_but_a_fourth_modality_is_not():
    image = noise(64, 64, 4)
    with_alpha, _ = prepare_image(image, config(channels=3))
    without, _ = prepare_image(image[..., :3], config(channels=3))
    np.testing.assert_array_equal(with_alpha, without)
    assert prepare_image(image, config(channels=4))[0].shape == (64, 64, 4)
    with pytest.raises(InputError, match="image has 4 channels; expected 3"):
        prepare_image(image.astype(np.float32), config(channels=3))
    with pytest.raises(InputError, match="image has 3 channels; expected 5"):
        prepare_image(image[..., :3], config(channels=5))


def test_input_that_is_no_image():
    with pytest.raises(InputError, match=r"image has shape \(0, 5, 1\)"):
        prepare_image(np.zeros((0, 5, 1), np.uint8), config())
    with pytest.raises(InputError, match="NaN or infinite"):
        prepare_image(np.full((5, 5, 1), np.nan, np.float32), config())


def test_imagenet_is_bgr_less_its_mean():
    image = np.broadcast_to(np.uint8([10, 20, 30]), (64, 64, 3))
    prepared, _ = prepare_image(image, config(channels=3, normalisation="imagenet"))
    np.testing.assert_allclose(prepared[5, 5], [30 - 103.939, 20 - 116.779, 10 - 123.68], atol=1e-4)


def test_imagenet_stretches_deep_images_to_bytes():
    image = np.linspace(1000, 5000, 64 * 64, dtype=np.float32).reshape(64, 64)
    prepared, _ = prepare_image(image, config(channels=3, normalisation="imagenet"))
    pixels = prepared + np.float32([103.939, 116.779, 123.68])
    assert pixels.min() == pytest.approx(0, abs=1e-3)
    assert pixels.max() == pytest.approx(255, abs=1e-3)
    np.testing.assert_allclose(pixels[32, 0], 127.5, atol=2)
    constant, _ = prepare_image(np.full((64, 64), 9.0), config(channels=3, normalisation="imagenet"))
    np.testing.assert_allclose(constant[0, 0], [-103.939, -116.779, -123.68], atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shrinking_averages(dtype):
    checkers = (np.indices((512, 512)).sum(0) % 2 * 255).astype(dtype)[..., None]
    checkers[:, 256:] //= 2
    prepared, _ = prepare_image(checkers, config())
    # Every pixel of the result is one of the two averages, so it is −1 or 1 but for the seam.
    assert np.abs(np.abs(np.delete(prepared, [31, 32], axis=1)) - 1).max() < 0.1


@pytest.mark.parametrize("shape", [(40, 100), (97, 33), (500, 700)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_things_are_where_the_letterbox_says(shape, dtype):
    rows, columns = np.indices(shape)
    scale = 64 / max(shape)
    for ramp in (rows, columns):
        image = (ramp / max(shape) * 255).astype(dtype)[..., None]
        prepared, letterbox = prepare_image(image, config())
        assert letterbox.scale == pytest.approx(scale)
        inside = prepared[: int(shape[0] * scale + 1e-6), : int(shape[1] * scale + 1e-6), 0]
        # A ramp stays one; network pixel i shows what is at (i + 0.5) / scale − 0.5.
        axis = 0 if ramp is rows else 1
        expected = (np.indices(inside.shape)[axis] + 0.5) / scale - 0.5
        slope, offset = np.polyfit(expected.ravel(), inside.ravel(), 1)
        residual = (inside - (slope * expected + offset)) / slope
        assert np.abs(residual).max() < max(1.0, 2 / scale)
        assert np.abs(residual).mean() < 1.5 if dtype == np.uint8 else 0.3


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 128]))
def test_boxes_go_there_and_back(height, width, size):
    _, letterbox = prepare_image(np.zeros((height % 40 + 1, width % 40 + 1, 1), np.uint8), config(size))
    boxes = np.float32([[0, 0, width, height], [1, 2, 3, 4]])
    network = letterbox.to_network(boxes)
    assert network.dtype == np.float32
    np.testing.assert_allclose(network, boxes * letterbox.scale, rtol=1e-6)
    np.testing.assert_allclose(letterbox.to_original(network), boxes, rtol=1e-5)
    assert letterbox.to_network(np.zeros((0, 4))).shape == (0, 4)


def test_one_thin_line_is_an_image():
    prepared, _ = prepare_image(noise(1, 500, 1), config())
    assert prepared.shape == (64, 64, 1)
    assert not prepared[1:].any()


def test_batch_by_hand():
    image = noise(32, 128, 1)
    masks = np.zeros((2, 32, 128), bool)
    masks[0, 10:20, 30:50] = True
    masks[1, 0, 127] = True
    batch = make_batch([sample(image, masks, [2, 1]), sample(image)], config(max_instances=3, mask_pool_size=2))
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "image": ((2, 64, 64, 1), "float32"),
        "boxes": ((2, 3, 4), "float32"),
        "class_ids": ((2, 3), "int32"),
        "valid": ((2, 3), "bool"),
        "masks": ((2, 3, 8, 8), "uint8"),
    }
    assert batch["boxes"][0].tolist() == [[15, 5, 25, 10], [63.5, 0, 64, 0.5], [0, 0, 0, 0]]
    assert batch["class_ids"].tolist() == [[2, 1, 0], [0, 0, 0]]
    assert batch["valid"].tolist() == [[True, True, False], [False] * 3]
    assert (batch["masks"][0, :2] == 255).all()
    assert not batch["masks"][0, 2:].any() and not batch["masks"][1].any()
    np.testing.assert_array_equal(batch["image"][0], prepare_image(image, config())[0])


def test_too_many_instances_leave_the_largest_and_empty_ones_go():
    image = noise(64, 64, 1)
    masks = np.zeros((5, 64, 64), bool)
    for index, side in enumerate([3, 9, 0, 5, 7]):
        masks[index, :side, :side] = True
    batch = make_batch([sample(image, masks, [1, 2, 1, 2, 1])], config(max_instances=3))
    assert batch["boxes"][0, :, 2].tolist() == [9, 5, 7]
    assert batch["class_ids"][0].tolist() == [2, 2, 1]
    batch = make_batch([sample(image, masks)], config(max_instances=5))
    assert batch["valid"][0].tolist() == [True] * 4 + [False]


def test_an_error_names_the_sample():
    with pytest.raises(InputError, match=r"x\.png: image has 2 channels"):
        make_batch([sample(noise(8, 8, 2, np.float32))], config(channels=3))


@given(st.floats(10, 90), st.floats(10, 90), st.floats(1, 60), st.floats(0.3, 3), st.sampled_from([28, 56]))
def test_a_mask_comes_back_from_its_square(row, column, radius, ratio, size):
    mask = disc((100, 100), row, column, radius, ratio)
    if not mask.any():
        return
    crop = Crop(0, 0, mask).tight()
    back = np.zeros_like(mask)
    soft = transform.resize(
        square(crop.pixels, size).astype(float), crop.pixels.shape, order=1, mode="edge", anti_aliasing=False
    )
    back[crop.slices] = soft >= 127.5
    assert np.count_nonzero(back & mask) >= (0.97 if size == 28 else 0.985) * np.count_nonzero(back | mask)


def test_squares_by_hand():
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1]], bool)
    assert square(mask, 4).tolist() == (mask * 255).tolist()
    np.testing.assert_allclose(square(mask, 2), [[255, 0], [0, 191.25]], atol=1)  # 3 of 4 pixels
    grown = square(np.array([[1, 0]], bool), 4)
    np.testing.assert_allclose(grown[0], [255, 191.25, 63.75, 0], atol=1)  # centers at −0.25, 0.25, 0.75, 1.25
    assert (grown == grown[0]).all()


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-20, 1e14, 1e19, 1e30, 1e37])
@pytest.mark.parametrize("size", [40, 64])
def test_the_unit_of_the_pixels_does_not_matter(scale, size):
    image = RNG.normal(0, 1, (size, size, 2)).astype(np.float32)
    expected, _ = prepare_image(image, config(channels=2))
    assert expected.std() == pytest.approx(1, abs=0.1)
    # One channel alone, as of modalities that have nothing to do with each other.
    scaled = (image.astype(np.float64) * [scale, 1]).astype(np.float32)
    np.testing.assert_allclose(
        prepare_image(scaled, config(channels=2))[0], expected, atol=1e-2 if scale < 1e-37 else 1e-4
    )


def test_large_numbers_that_differ_by_rounding_alone_are_flat():
    image = np.full((40, 40, 1), 1e30, np.float32)
    image[::2] = np.nextafter(image[::2], np.float32(np.inf))
    assert not prepare_image(image, config())[0].any()
