"""The evaluator: scores by hand, edge cases and intervals."""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.metrics.evaluator import Evaluator

NAMES = ("iso", "hypo")


@pytest.fixture
def evaluator(rectangles, make_sample, make_detections):
    """Four images of three patients, worked out by hand.

    Class 1 is iso, 2 hypo. At confidence 0.5, `a1` has half of its iso found (Dice 2/3, IoU 1/2, so matched) and its
    hypo exactly; `a2` misses its iso, which is shown only from 0.3; `b` has no instance and a false iso; `c`, with
    pixels of 0.5 mm, has hypo found three columns aside (no match), and nothing of iso.
    """
    evaluator = Evaluator(NAMES)
    evaluator.add(
        make_sample(rectangles((0, 0, 8, 8), (10, 10, 14, 14)), [1, 2], "a", "a1.png"),
        make_detections(rectangles((10, 10, 14, 14), (0, 0, 8, 4)), [0.95, 0.9], [2, 1]),
    )
    evaluator.add(
        make_sample(rectangles((0, 0, 4, 4)), [1], "a", "a2.png"),
        make_detections(rectangles((0, 0, 4, 4)), [0.3], [1]),
    )
    evaluator.add(make_sample(rectangles(), [], "b", "b.png"), make_detections(rectangles((2, 2, 6, 6)), [0.8], [1]))
    evaluator.add(
        make_sample(rectangles((2, 5, 8, 11)), [2], "c", "c.png", spacing_mm=(0.5, 0.5)),
        make_detections(rectangles((5, 5, 11, 11)), [0.7], [2]),
    )
    return evaluator


def test_dice_and_its_policy(evaluator):
    found = evaluator.summary(0.5)
    # iso: a1 2/3, a2 0 (nothing shown), b 0 (nothing true), c left out. hypo: a1 1, a2 and b left out, c 1/2.
    assert found["dice/iso"] == pytest.approx(2 / 9)
    assert found["dice/hypo"] == pytest.approx(3 / 4)
    assert found["dice"] == pytest.approx((2 / 9 + 3 / 4) / 2)
    assert found["iou/iso"] == pytest.approx(1 / 6)
    assert found["iou/hypo"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["iou"] == pytest.approx((1 / 6 + 2 / 3) / 2)
    assert (found["dice_images/iso"], found["dice_images/hypo"]) == (3, 2)


def test_hd95_and_its_policy(evaluator):
    found = evaluator.summary(0.5)
    # iso: only a1 has both; the lowest row of the square, 8 of its 28 surface pixels, is 4 from the found half.
    # hypo: a1 0, c 3.
    assert found["hd95/iso"] == pytest.approx(4)
    assert found["hd95/hypo"] == pytest.approx(1.5)
    assert found["hd95"] == pytest.approx((4 + 1.5) / 2)
    assert found["hd95_mm"] == found["hd95_mm/hypo"] == pytest.approx(1.5)
    assert "hd95_mm/iso" not in found
    assert (found["hd95_images/iso"], found["hd95_images/hypo"], found["hd95_skipped"]) == (1, 2, 2)
    assert found["hd95_mm_images"] == 1


def test_working_point(evaluator):
    found = evaluator.summary(0.5)
    # Four shown, two match of four instances; of the three images with instances only a1 is complete.
    assert (found["true_positives"], found["false_positives"], found["misses"]) == (2, 2, 2)
    assert (found["precision"], found["recall"], found["f1"]) == (0.5, 0.5, 0.5)
    assert found["detection_rate"] == pytest.approx(1 / 3)
    assert (found["detections"], found["instances"], found["images"], found["patients"]) == (4, 4, 4, 3)
    assert found["images_without_instances"] == 1


def test_froc(evaluator):
    # From the best score: hit, hit, false, false, hit in 4 images with 4 instances.
    false, sensitivity = evaluator.froc_curve()
    assert false.tolist() == [0, 0, 0, 0.25, 0.5, 0.5]
    assert sensitivity.tolist() == [0, 0.25, 0.5, 0.5, 0.5, 0.75]
    found = evaluator.summary(0.5)
    at_rates = [found[f"froc_{rate}"] for rate in ("0.125", "0.25", "0.5", "1", "2", "4", "8")]
    assert at_rates == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]
    assert found["froc"] == pytest.approx(sum(at_rates) / 7)


def test_lower_confidence_shows_more(evaluator):
    found = evaluator.summary(0.3)
    assert (found["true_positives"], found["recall"]) == (3, 0.75)
    assert found["dice/iso"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_score_equal_to_the_confidence_is_shown(evaluator):
    # 0.9 is no float32; `Detections.above(0.9)` shows a score of float32(0.9), and so must the evaluation.
    assert evaluator.summary(0.9)["detections"] == 2
    assert evaluator.summary(0.95)["detections"] == 1


def test_per_instance(evaluator):
    rows = evaluator.per_instance(0.5)
    assert [(row["image"], row["class"], row["area"], row["found"]) for row in rows] == [
        (1, "iso", 64, True), (1, "hypo", 16, True), (2, "iso", 16, False), (4, "hypo", 36, False),
    ]  # fmt: skip
    # 36 pixels of 0.25 mm² are 9 mm², a circle of diameter 2 √(9 / π).
    assert [row["diameter_mm"] for row in rows] == [None, None, None, pytest.approx(3.385, abs=1e-3)]
    assert evaluator.per_instance(0.3)[2]["found"]


def test_per_case(evaluator):
    rows = evaluator.per_case(0.5)
    assert [row["source"] for row in rows] == ["a1.png", "a2.png", "b.png", "c.png"]
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0] == {
        "source": "a1.png",
        "patient_id": "a",
        "instances": 2,
        "detections": 2,
        "true_positives": 2,
        "false_positives": 0,
        "misses": 0,
        "dice": pytest.approx((2 / 3 + 1) / 2),
        "iou": pytest.approx(0.75),
        "hd95": pytest.approx(2),
        "hd95_mm": None,
        "dice/iso": pytest.approx(2 / 3),
        "dice/hypo": 1,
    }
    assert (rows[1]["misses"], rows[1]["dice"], rows[1]["hd95"], rows[1]["dice/hypo"]) == (1, 0, None, None)
    assert (rows[2]["instances"], rows[2]["false_positives"], rows[2]["dice"]) == (0, 1, 0)
    assert rows[3]["hd95_mm"] == pytest.approx(1.5)
    assert evaluator.per_case(0.85)[2]["dice"] is None
    json.dumps(rows)


def test_best_confidence(rectangles, make_sample, make_detections):
    # Dice 1 from above the false one at 0.33 to the true one at 0.62: 0.35 … 0.60, lower middle 0.45.
    evaluator = Evaluator(NAMES)
    truth = rectangles((0, 0, 5, 5))
    both = rectangles((0, 0, 5, 5), (10, 10, 15, 15))
    evaluator.add(make_sample(truth), make_detections(both, [0.62, 0.33]))
    evaluator.add(make_sample(rectangles()), make_detections(rectangles(), []))
    assert evaluator.best_confidence() == 0.45


def test_best_confidence_is_the_best_of_the_grid(evaluated):
    evaluator = evaluated(3, images=8)

    def score(confidence):
        scores = evaluator.summary(confidence)
        return scores["dice"] + scores["f1"]

    best = score(evaluator.best_confidence())
    assert best == pytest.approx(max(score(0.05 * step) for step in range(1, 20)))


def test_best_confidence_minds_small_false_instances(rectangles, make_sample, make_detections):
    # A speck lowers the Dice by 0.005 and the large, poorer half raises it by more: F1 decides against both.
    evaluator = Evaluator(("nodule",))
    truth = rectangles((0, 0, 10, 10))
    found = rectangles((0, 0, 10, 8), (0, 8, 10, 9), (14, 14, 15, 15))
    evaluator.add(make_sample(truth), make_detections(found, [0.9, 0.5, 0.2]))
    assert evaluator.summary(0.4)["dice"] > evaluator.summary(0.8)["dice"]
    assert evaluator.best_confidence() == 0.7


def test_best_confidence_undecided(rectangles, make_sample, make_detections):
    truth = rectangles((0, 0, 5, 5))
    for true, found, scores in (
        (None, None, None),
        (truth, rectangles(), []),
        (rectangles(), truth, [0.6]),
        (rectangles(), rectangles(), []),
    ):
        evaluator = Evaluator(("nodule",))
        if true is not None:
            evaluator.add(make_sample(true), make_detections(found, scores))
        assert evaluator.best_confidence() == 0.5


def test_against_arrays(random_pairs):
    """Dice, HD95's presence and the counts, straight from masks."""
    pairs = random_pairs(5, images=12)
    evaluator = Evaluator(("iso", "hypo", "cyst"))
    dice = {class_id: [] for class_id in (1, 2, 3)}
    both = 0
    for sample, detections in pairs:
        evaluator.add(sample, detections)
        shown = detections.above(0.4)
        for class_id in dice:
            true = sample.masks[sample.class_ids == class_id].any(axis=0)
            found = shown.masks[shown.class_ids == class_id].any(axis=0)
            if true.any() or found.any():
                dice[class_id].append(2 * (true & found).sum() / (true.sum() + found.sum()))
            both += true.any() and found.any()
    found = evaluator.summary(0.4)
    for class_id, name in enumerate(("iso", "hypo", "cyst"), start=1):
        assert found[f"dice/{name}"] == pytest.approx(np.mean(dice[class_id]))
        assert found[f"dice_images/{name}"] == len(dice[class_id])
    assert found["dice"] == pytest.approx(np.mean([np.mean(values) for values in dice.values()]))
    assert sum(found[f"hd95_images/{name}"] for name in ("iso", "hypo", "cyst")) == both
    assert found["hd95_skipped"] == sum(map(len, dice.values())) - both


def test_recall_is_cocos(evaluated):
    """All detections shown: recall at IoU .5 is the largest recall that COCOeval reaches with its own matching."""
    evaluator = evaluated(6, images=12)
    curves = evaluator.pr_curves()
    rows = evaluator.coco_ground_truth()["annotations"]
    found = 0
    for class_id, name in enumerate(("iso", "hypo", "cyst"), start=1):
        instances = sum(row["category_id"] == class_id for row in rows)
        recall, precision = curves[name]
        # The last recall with any precision, rounded down to the grid of hundredths.
        found += math.ceil(recall[precision > 0].max() * instances - 1e-9) if (precision > 0).any() else 0
    assert evaluator.summary(0.0)["true_positives"] == found


def test_a_class_without_instances_has_no_curve(rectangles, make_sample, make_detections, evaluated):
    masks = rectangles((2, 2, 8, 8))
    assert list(evaluated([(make_sample(masks), make_detections(masks, [0.9]))]).pr_curves()) == ["iso"]


def test_perfect(rectangles, make_sample, make_detections):
    evaluator = Evaluator(("nodule",))
    truth = rectangles((0, 0, 5, 5), (10, 10, 18, 18))
    evaluator.add(make_sample(truth, spacing_mm=(1, 2)), make_detections(truth, [0.9, 0.8]))
    found = evaluator.summary(0.5)
    ones = ("mask_ap", "box_ap", "dice", "iou", "precision", "recall", "f1", "froc", "detection_rate")
    assert [found[name] for name in ones] == pytest.approx([1] * len(ones))
    assert found["hd95"] == found["hd95_mm"] == 0


def test_unequal_spacing(rectangles, make_sample, make_detections):
    # Three columns aside with columns of 2 mm.
    evaluator = Evaluator(("nodule",))
    evaluator.add(
        make_sample(rectangles((2, 5, 8, 11)), spacing_mm=(0.5, 2.0)),
        make_detections(rectangles((5, 5, 11, 11)), [0.9]),
    )
    found = evaluator.summary(0.5)
    assert (found["hd95"], found["hd95_mm"]) == pytest.approx((3, 6))


def test_coco_forms(evaluator):
    truth, results = evaluator.coco_ground_truth(), evaluator.coco_results()
    json.dumps([truth, results])
    assert truth["categories"] == [{"id": 1, "name": "iso"}, {"id": 2, "name": "hypo"}]
    assert truth["images"][0] == {"id": 1, "file_name": "a1.png", "height": 20, "width": 20, "patient_id": "a"}
    last = truth["annotations"][-1]
    assert (last["id"], last["image_id"], last["category_id"]) == (4, 4, 2)
    assert (last["bbox"], last["area"]) == ([2, 5, 6, 6], 36)
    assert coco_mask.decode(last["segmentation"])[5:11, 2:8].all()
    assert [(one["image_id"], one["category_id"]) for one in results] == [(1, 2), (1, 1), (2, 1), (3, 1), (4, 2)]
    assert results[1]["bbox"] == [0, 0, 8, 4]
    assert coco_mask.decode(results[1]["segmentation"]).sum() == 32


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
    undefined = {"dice", "precision", "recall", "f1", "mask_ap", "froc", "hd95", "detection_rate"}
    assert not undefined & {name.removesuffix("_lo") for name in (*found, *evaluator.intervals(0.5, resamples=20))}


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


def test_intervals_cover_the_value(evaluated):
    evaluator = evaluated(8, images=30)
    found, ends = evaluator.summary(0.5), evaluator.intervals(0.5, resamples=300)
    main = ("mask_ap", "mask_ap10", "mask_ap50", "mask_ap75", "box_ap", "box_ap50", "dice", "dice/iso", "iou", "hd95")
    for name in (*main, "precision", "recall", "f1", "froc", "detection_rate"):
        assert ends[f"{name}_lo"] < found[name] < ends[f"{name}_hi"]
    assert not any(math.isnan(value) for value in ends.values())
    assert not [name for name in ends if name.startswith("hd95_mm")]
    assert ends == evaluator.intervals(0.5, resamples=300)
    assert ends != evaluator.intervals(0.5, resamples=300, seed=1)


def test_interval_values_are_those_of_repeated_images(random_pairs, evaluated, monkeypatch):
    """What is computed for a resample is the summary of an evaluator that got its images as often as drawn."""
    pairs = random_pairs(9, images=6)
    evaluator = evaluated(pairs)
    weights = np.array([[2, 0, 1, 1, 0, 3]], float)
    expected = evaluated([pairs[index] for index in (0, 0, 2, 3, 5, 5, 5)]).summary(0.5)
    seen = {}
    monkeypatch.setattr(
        "mrcnn.metrics.evaluator.bootstrap_intervals", lambda statistic, *_: seen.update(statistic(weights)) or {}
    )
    evaluator.intervals(0.5)
    assert {name: value[0] for name, value in seen.items() if not np.isnan(value[0])} == pytest.approx(
        {name: expected[name] for name in seen if name in expected}
    )


def test_one_patient_has_no_interval(rectangles, make_sample, make_detections):
    evaluator = Evaluator(("iso", "hypo"))
    for number in range(3):
        truth = rectangles((0, 0, 5 + number, 5))
        evaluator.add(make_sample(truth, patient_id="only"), make_detections(truth, [0.9]))
    assert evaluator.intervals(0.5) == {}
    assert evaluator.summary(0.5)["dice"] == 1
