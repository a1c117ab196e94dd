import pickle
import subprocess
import sys

import numpy as np
import pytest

from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.metrics.evaluator import Evaluator

NAMES = ("iso", "hypo")


def test_no_images():
    evaluator = Evaluator(NAMES)
    found = evaluator.summary(0.5)
    assert len(evaluator) == 0
    assert set(found.values()) == {0}
    assert not {"dice", "precision", "mask_ap", "froc", "detection_rate"} & set(found)
    assert (evaluator.intervals(0.5), evaluator.per_case(0.5), evaluator.pr_curves()) == ({}, [], {})
    assert [len(axis) for axis in evaluator.froc_curve()] == [0, 0]
    assert evaluator.coco_results() == evaluator.coco_ground_truth()["images"] == []


def test_nothing_true_and_nothing_found(rectangles, make_sample):
    evaluator = Evaluator(NAMES)
    for patient in "ab":
        evaluator.add(make_sample(rectangles(), patient_id=patient), Detections.empty(20, 20))
    found = evaluator.summary(0.5)
    assert {name for name, value in found.items() if value} == {"images", "images_without_instances", "patients"}
    assert not {"dice", "precision", "recall", "f1", "mask_ap", "froc", "hd95", "detection_rate"} & set(found)
    assert evaluator.intervals(0.5, resamples=20) == {}


def test_order_of_detections_does_not_matter(random_pairs):
    straight, shuffled = Evaluator(("a", "b", "c")), Evaluator(("a", "b", "c"))
    rng = np.random.default_rng(0)
    for sample, found in random_pairs(10, images=6):
        order = rng.permutation(len(found))
        straight.add(sample, found)
        shuffled.add(
            sample, Detections(found.boxes[order], found.scores[order], found.class_ids[order], found.masks[order])
        )
    assert straight.summary(0.5) == shuffled.summary(0.5)


def test_adding_after_a_summary(rectangles, make_sample, make_detections):
    evaluator = Evaluator(("nodule",))
    truth = rectangles((0, 0, 5, 5))
    evaluator.add(make_sample(truth), make_detections(truth, [0.9]))
    assert evaluator.summary(0.5)["mask_ap50"] == pytest.approx(1)
    evaluator.add(make_sample(truth), make_detections(truth[:0], []))
    found = evaluator.summary(0.5)
    assert (found["mask_ap50"], found["dice"], found["images"]) == (pytest.approx(51 / 101), 0.5, 2)


def test_keeps_no_arrays_of_image_size(rectangles, make_sample, make_detections):
    truth = rectangles((0, 0, 500, 500), (510, 510, 900, 900), side=1024)
    size = []
    for images in (1, 11):
        evaluator = Evaluator(("nodule",))
        for _ in range(images):
            evaluator.add(make_sample(truth), make_detections(truth, [0.9, 0.8]))
        evaluator.summary(0.5)
        size.append(len(pickle.dumps(evaluator)))
    assert size[1] - size[0] < 10 * 5_000  # a mask alone has 1,048,576 bytes


def test_other_size_is_refused(rectangles, make_sample):
    with pytest.raises(InputError, match=r"x\.png: .*\(0, 10, 10\), expected \(0, 20, 20\)"):
        Evaluator(NAMES).add(make_sample(rectangles(), source="x.png"), Detections.empty(10, 10))


@pytest.mark.parametrize(
    ("true", "found", "where"), [(3, 1, "annotations"), (1, 3, "detections"), (1, 0, "detections")]
)
def test_unknown_class_is_refused(rectangles, make_sample, make_detections, true, found, where):
    masks = rectangles((0, 0, 5, 5))
    with pytest.raises(InputError, match=f"x.png: class ids .* in {where}, expected 1 to 2"):
        Evaluator(NAMES).add(make_sample(masks, [true], source="x.png"), make_detections(masks, [0.9], [found]))


def test_imports_no_deep_learning_framework():
    code = "import sys, mrcnn.metrics; sys.exit(bool({'keras', 'tensorflow', 'jax'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
