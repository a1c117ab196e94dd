"""Small samples and detections."""

import numpy as np
import pytest

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator


def tight_boxes(masks):
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            box[:] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


@pytest.fixture(scope="session")
def rectangles():
    """Function: masks of rectangles given as (x1, y1, x2, y2) in an image of `side`."""

    def make(*boxes, side=20):
        masks = np.zeros((len(boxes), side, side), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
        return masks

    return make


@pytest.fixture(scope="session")
def make_sample():
    """Function: a sample of masks; all of class 1 unless said otherwise."""

    def make(masks, class_ids=None, patient_id="p", source="image.png", spacing_mm=None):
        class_ids = np.ones(len(masks), np.int32) if class_ids is None else np.array(class_ids, np.int32)
        image = np.zeros((*masks.shape[1:], 1), np.uint8)
        return Sample(image, masks, class_ids, patient_id, source, spacing_mm)

    return make


@pytest.fixture(scope="session")
def make_detections():
    """Function: detections of masks with their tight boxes; all of class 1 unless said otherwise."""

    def make(masks, scores, class_ids=None, boxes=None):
        class_ids = np.ones(len(masks), np.int32) if class_ids is None else np.array(class_ids, np.int32)
        boxes = tight_boxes(masks) if boxes is None else np.array(boxes, np.float32)
        return Detections(boxes, np.array(scores, np.float32), class_ids, masks)

    return make


@pytest.fixture(scope="session")
def random_pairs(make_sample, make_detections):
    """Function: pairs of sample and detections, with ellipses of all COCO sizes, misses, false and doubled detections,
    wrong classes, and images without instances or without detections."""

    def ellipse(rng, side):
        (row, column), (height, width) = rng.uniform(0, side, 2), rng.uniform(3, 70, 2)
        rows, columns = np.ogrid[:side, :side]
        return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 <= 1

    def pair(rng, number, side=160, classes=3):
        truth = [ellipse(rng, side) for _ in range(rng.integers(0, 5))]
        truth = np.array([mask for mask in truth if mask.any()], bool).reshape(-1, side, side)
        class_ids = rng.integers(1, classes + 1, len(truth))
        found, found_ids = [], []
        for mask, class_id in zip(truth, class_ids, strict=True):
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                found.append(np.roll(mask, rng.integers(-6, 7, 2), (0, 1)))
                found_ids.append(class_id if rng.random() < 0.85 else rng.integers(1, classes + 1))
        for _ in range(rng.integers(0, 3)):
            found.append(ellipse(rng, side))
            found_ids.append(rng.integers(1, classes + 1))
        found = np.array(found, bool).reshape(-1, side, side)
        sample = make_sample(truth, class_ids, patient_id=f"p{number // 2}", source=f"{number}.png")
        return sample, make_detections(found, rng.uniform(0.05, 1, len(found)), found_ids)

    def make(seed, images):
        rng = np.random.default_rng(seed)
        return [pair(rng, number) for number in range(images)]

    return make


def evaluate(pairs):
    evaluator = Evaluator(("iso", "hypo", "cyst"))
    for pair in pairs:
        evaluator.add(*pair)
    return evaluator


@pytest.fixture(scope="session")
def evaluated(random_pairs):
    """Function: an evaluator of pairs, or of `random_pairs` of a seed."""
    return lambda pairs, images=None: evaluate(pairs if images is None else random_pairs(pairs, images))
