"""Test flips and ensembles with simple functions in the place of networks."""

import numpy as np
import pytest

from mrcnn.config import ModelConfig
from mrcnn.data.sample import Sample
from mrcnn.data.transforms.augment import augment
from mrcnn.data.transforms.augmentation import Augmentation
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.inference.ensemble import Ensemble, flip_detections, flip_image, flipped_views, make_predictor

NAMES = ("left_lung", "right_lung")


class Bright:
    """Detect the bright pixels of an image as one instance, of class 1 on the left half and class 2 on the right."""

    def __init__(self, score=0.5, **settings):
        self.config = ModelConfig(class_names=NAMES, **settings)
        self.score = score
        self.shown = []

    def detect(self, images, *, batch_size=4):
        self.shown += images
        return [self._find(np.asarray(image).reshape(*image.shape[:2], -1).max(axis=2) > 0) for image in images]

    def _find(self, mask):
        if not mask.any():
            return Detections.empty(*mask.shape)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        kind = 1 if columns.mean() < mask.shape[1] / 2 else 2
        score, class_ids = np.array([self.score], np.float32), np.array([kind], np.int32)
        return Detections(np.array([box], np.float32), score, class_ids, mask[None])


def spot(x1, y1, x2, y2, height=12, width=30):
    image = np.zeros((height, width), np.uint8)
    image[y1:y2, x1:x2] = 200
    return image


def test_views_are_all_combinations():
    assert flipped_views(()) == [()]
    assert flipped_views(("horizontal",)) == [(), ("horizontal",)]
    assert flipped_views(("horizontal", "vertical")) == [(), ("horizontal",), ("vertical",), ("horizontal", "vertical")]
    for bad in (("diagonal",), ("vertical", "vertical")):
        with pytest.raises(ValueError, match="expected each once of horizontal, vertical"):
            flipped_views(bad)


@pytest.mark.parametrize("view", flipped_views(("horizontal", "vertical")))
@pytest.mark.parametrize("channels", [(), (3,)])
def test_flip_is_its_own_inverse_and_matches_the_image(view, channels):
    image = np.random.default_rng(0).integers(0, 255, (7, 9, *channels), np.uint8)
    np.testing.assert_array_equal(flip_image(flip_image(image, view), view), image)
    plain, mirrored = np.arange(3), np.array([0, 2, 1])
    for ids in (plain, mirrored):
        (found,) = Bright().detect([spot(2, 3, 8, 5)])
        there = flip_detections(found, view, ids)
        (expected,) = Bright().detect([flip_image(spot(2, 3, 8, 5), view)])
        np.testing.assert_array_equal(there.boxes, expected.boxes)
        np.testing.assert_array_equal(there.masks, expected.masks)
        # The function tells the picture's side; the class that swaps does so too, the other stays.
        assert there.class_ids[0] == (2 if ids is mirrored and "horizontal" in view else 1)
        back = flip_detections(there, view, ids)
        np.testing.assert_array_equal(back.boxes, found.boxes)
        np.testing.assert_array_equal(back.masks, found.masks)
        assert back.class_ids.tolist() == found.class_ids.tolist()


def test_flips_equal_those_of_the_augmentation():
    assert Augmentation().flips == ()
    assert Augmentation(flip_vertical=0.1).flips == ("vertical",)
    always = Augmentation(flip_horizontal=1.0, flip_swaps=[list(NAMES)])
    assert always.flips == ("horizontal",)
    image = np.random.default_rng(0).integers(0, 255, (12, 30, 1), np.uint8)
    (found,) = Bright().detect([spot(2, 3, 8, 5)])
    sample = Sample(image, found.masks, found.class_ids, "p", "a.png")
    changed = augment(sample, always, (0, 0, 0), always.mirrored_ids(NAMES))
    there = flip_detections(found, ("horizontal",), always.mirrored_ids(NAMES))
    np.testing.assert_array_equal(flip_image(image, ("horizontal",)), changed.image)
    np.testing.assert_array_equal(there.masks, changed.masks)
    assert there.class_ids.tolist() == changed.class_ids.tolist()


def test_sided_classes_with_test_time_augmentation():
    image = spot(2, 3, 8, 5)
    sided = Ensemble([Bright()], ("horizontal", "vertical"), (0, 2, 1))
    (found,) = sided.detect([image])
    # All four views agree: nothing is lost.
    assert (found.class_ids.tolist(), found.scores.tolist()) == ([1], [0.5])
    np.testing.assert_array_equal(found.masks[0], image > 0)
    # Without the swap, half of the views say the other class.
    (found,) = Ensemble([Bright()], ("horizontal",)).detect([image])
    assert (sorted(found.class_ids.tolist()), found.scores.tolist()) == ([1, 2], [0.25, 0.25])


def test_networks_are_fused_for_images_of_any_size_in_order():
    images = [spot(2, 3, 8, 5), spot(0, 0, 4, 4, 9, 9), np.zeros((5, 6, 3), np.uint8)]
    both = Ensemble([Bright(0.5), Bright(0.75)])
    found = both.detect(images, batch_size=2)
    assert [each.scores.tolist() for each in found] == [[0.625], [0.625], []]
    assert [each.masks.shape[1:] for each in found] == [(12, 30), (9, 9), (5, 6)]
    assert both.detect([]) == []


def test_one_network_without_flips_is_returned_unchanged():
    network = Bright()
    assert make_predictor([network]) is network
    assert isinstance(make_predictor([network], ("vertical",)), Ensemble)
    assert isinstance(make_predictor([network, network]), Ensemble)


def test_network_of_other_classes_is_rejected():
    other = Bright()
    other.config = ModelConfig(class_names=("nodule",))
    with pytest.raises(InputError, match="classes nodule: expected those of the ensemble's first network, left_lung"):
        Ensemble([Bright(), other])


class Two:
    """Detect two instances with an IoU of 0.6, as a network with a higher threshold of suppression may."""

    config = ModelConfig(class_names=NAMES, nms_iou=0.7, max_detections=2)

    def detect(self, images, **options):
        masks = np.zeros((2, 10, 20), bool)
        masks[0, :, :10] = masks[1, :, 2:12] = True
        boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10]], np.float32)
        return [Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1], np.int32), masks) for _ in images]


def test_detections_that_networks_do_not_suppress_are_not_fused():
    (found,) = Ensemble([Two(), Two(), Two()]).detect([np.zeros((10, 20), np.uint8)])
    np.testing.assert_array_equal(found.boxes, [[0, 0, 10, 10], [2, 0, 12, 10]])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
