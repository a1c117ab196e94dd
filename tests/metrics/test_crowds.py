"""Detections in crowds are no false positives."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import Evaluator

CLASSES = ("iso", "hypo")


def box(x1, y1, x2, y2):
    mask = np.zeros((40, 40), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def image(truth, crowds, found, patient="p"):
    """Truth and crowds as (class, corners), detections as (class, corners, score)."""

    def stack(items):
        return np.array([box(*item[1]) for item in items], bool).reshape(-1, 40, 40)

    def ids(items):
        return np.array([item[0] for item in items], np.int32)

    sample = Sample(np.zeros((40, 40, 1), np.uint8), stack(truth), ids(truth), patient, f"{patient}.png",
                    crowd_masks=stack(crowds), crowd_ids=ids(crowds))  # fmt: skip
    corners = np.array([item[1] for item in found], np.float32).reshape(-1, 4)
    scores = np.array([item[2] for item in found], np.float32)
    return sample, Detections(boxes=corners, scores=scores, class_ids=ids(found), masks=stack(found))


TRUTH = [(1, (0, 0, 10, 10))]
CROWD = [(1, (20, 20, 40, 40))]
FOUND = [
    (1, (22, 22, 30, 30), 0.9),  # in the crowd
    (1, (25, 25, 38, 38), 0.85),  # in the crowd too, which takes any number
    (1, (0, 0, 10, 10), 0.8),  # the instance
    (1, (0, 20, 10, 30), 0.7),  # beside it
    (2, (22, 22, 30, 30), 0.6),  # in a crowd of the other class
    (1, (12, 20, 22, 30), 0.55),  # a fifth of it in the crowd
]


@pytest.fixture
def evaluator():
    evaluator = Evaluator(CLASSES)
    evaluator.add(*image(TRUTH, CROWD, FOUND))
    evaluator.add(*image([(1, (5, 5, 15, 15)), (2, (20, 0, 30, 10))], [],
                         [(1, (5, 5, 15, 14), 0.95), (2, (20, 0, 30, 9), 0.5)], "q"))  # fmt: skip
    return evaluator


def test_counts_precision_and_froc(evaluator):
    found = evaluator.summary(confidence=0.5)
    assert (found["true_positives"], found["false_positives"], found["misses"]) == (3, 3, 0)
    assert found["precision"] == pytest.approx(3 / 6) and found["detections"] == 6
    # By score: the instances of .95 and .8 without a false positive, and the third one after three of them.
    assert found["froc_1"] == pytest.approx(2 / 3) and found["froc_2"] == 1
    assert evaluator.froc_curve()[0].max() == 3 / 2


def test_dice_leaves_out_what_lies_in_the_crowd(evaluator):
    row = evaluator.per_case(0.5)[0]
    # 100 true pixels; predicted: 100 + 100 beside + 100 of which 2 × 10 lie in the crowd.
    assert row["dice/iso"] == pytest.approx(2 * 100 / (100 + 280))
    assert row["dice/hypo"] == 0  # no crowd of its class


def test_pixels_of_an_instance_within_a_crowd_count():
    evaluator = Evaluator(CLASSES)
    evaluator.add(*image([(1, (20, 20, 30, 30))], CROWD, [(1, (20, 20, 30, 40), 0.9)]))
    assert evaluator.summary(0.5)["dice/iso"] == 1 and evaluator.summary(0.5)["true_positives"] == 1


def test_an_image_of_crowd_alone_has_no_value():
    evaluator = Evaluator(CLASSES)
    evaluator.add(*image([], CROWD, FOUND[:2]))
    found = evaluator.summary(0.5)
    assert not {"mask_ap", "dice", "precision", "froc"} & set(found) and found["false_positives"] == 0


@pytest.mark.parametrize(("prefix", "kind"), [("mask", "segm"), ("box", "bbox")])
def test_average_precision_is_that_of_pycocotools(evaluator, prefix, kind):
    truth = COCO()
    truth.dataset = evaluator.coco_ground_truth()
    assert [one["iscrowd"] for one in truth.dataset["annotations"]] == [0, 1, 0, 0]
    truth.createIndex()
    results = evaluator.coco_results()
    reference = COCOeval(truth, truth.loadRes(results), kind)
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    found = evaluator.summary(0.5)
    assert found[f"{prefix}_ap"] == pytest.approx(reference.stats[0])
    assert found[f"{prefix}_ap50"] == pytest.approx(reference.stats[1])
    # Each image once is the set itself.
    once = evaluator.statistic(0.5)(np.ones((1, 2)))
    for name in (f"{prefix}_ap", f"{prefix}_ap10", f"{prefix}_ap50", f"{prefix}_ap75"):
        assert once[name][0] == pytest.approx(found[name])
