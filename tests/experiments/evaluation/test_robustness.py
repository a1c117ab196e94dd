"""Changed images: values worked out by hand, and masks that move with their images."""

import numpy as np
import pytest

from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.robustness import CHANGES, UNCHANGED, robustness, robustness_rows
from mrcnn.config import ModelConfig
from mrcnn.data import Sample
from mrcnn.detections import Detections


def sample(image, mask):
    return Sample(image, mask[None], np.ones(1, np.int32), "p", "a.png", spacing_mm=(0.5, 0.5))


@pytest.fixture
def bright_square():
    mask = np.zeros((200, 300), bool)
    mask[40:120, 100:220] = True
    image = np.repeat(np.where(mask, 200, 40).astype(np.uint8)[..., None], 3, axis=2)
    return sample(image, mask)


@pytest.mark.parametrize(("name", "inside", "outside"), [
    ("inverted", 55, 215),
    ("gamma 0.5", round(255 * (200 / 255) ** 0.5), round(255 * (40 / 255) ** 0.5)),
    ("gamma 2", round(255 * (200 / 255) ** 2), round(255 * (40 / 255) ** 2)),
])  # fmt: skip
def test_gray_levels(bright_square, name, inside, outside):
    changed = CHANGES[name](bright_square)
    assert changed.image.dtype == np.uint8
    assert (changed.image[80, 150] == inside).all() and (changed.image[199, 0] == outside).all()


def test_float_images_keep_their_range():
    mask = np.ones((4, 4), bool)
    image = np.linspace(-1000, 3000, 16, dtype=np.float32).reshape(4, 4, 1)
    changed = CHANGES["inverted"](sample(image, mask))
    np.testing.assert_allclose(changed.image, 2000 - image, atol=0.01)


@pytest.mark.parametrize("name", CHANGES)
def test_masks_cover_the_same_object(bright_square, name):
    changed = CHANGES[name](bright_square)
    (mask,), gray = changed.masks, changed.image[..., 0].astype(float)
    assert mask.shape == gray.shape
    middle = (gray[mask].mean() + gray[~mask].mean()) / 2
    object_ = gray < middle if name == "inverted" else gray > middle
    # Blur, noise, compression and letters change few pixels; a mask at another place would overlap much less.
    assert (object_ & mask).sum() / (object_ | mask).sum() > 0.8


@pytest.mark.parametrize(("name", "size", "spacing"), [
    ("half resolution", (100, 150), (1, 1)),
    ("double resolution", (400, 600), (0.25, 0.25)),
    ("1.25 times as wide", (200, 375), (0.5, 0.4)),
])  # fmt: skip
def test_sizes(bright_square, name, size, spacing):
    changed = CHANGES[name](bright_square)
    assert changed.image.shape == (*size, 3) and changed.masks.shape == (1, *size)
    assert changed.spacing_mm == pytest.approx(spacing)


class Threshold:
    """Predictor that finds all bright pixels as one instance."""

    config = ModelConfig(class_names=("square",))

    def detect(self, images, batch_size):
        found = []
        for image in images:
            mask = image[..., 0] > 128
            y, x = np.nonzero(mask)
            box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32)
            found.append(Detections(box, np.ones(1, np.float32), np.ones(1, np.int32), mask[None]))
        return found


class Single:
    class_names = ("square",)

    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def sample(self, index, context_slices):
        return self.samples[index]


def test_a_model_of_bright_objects_loses_on_inverted_images(bright_square):
    images = Single(bright_square)
    unchanged = evaluate(Threshold(), images, batch_size=1).summary(0.5)
    found = robustness(Threshold(), images, 0.5, unchanged, batch_size=1)
    assert found[UNCHANGED]["dice"] == 1
    # Inverted, everything but the square is bright.
    assert found["inverted"]["dice"] == 0
    rows = {row[0]: row[1:] for row in robustness_rows(found)}
    assert rows[UNCHANGED][:2] == ("1.000", "") and rows["inverted"][:2] == ("0.000", "-1.000")
