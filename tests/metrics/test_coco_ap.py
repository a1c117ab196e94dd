"""COCO average precision, against pycocotools."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.metrics import coco_ap
from mrcnn.metrics.coco_ap import resampled_average_precisions
from mrcnn.metrics.evaluator import Evaluator

CLASS_NAMES = ("iso", "hypo", "cyst")


@pytest.fixture
def scores(make_sample, make_detections):
    """Function: summary of images given as (truth masks, detected masks, scores[, class ids of both])."""

    def make(*images, class_names=("nodule",)):
        evaluator = Evaluator(class_names)
        for truth, found, values, *class_ids in images:
            of_truth, of_found = class_ids or (None, None)
            evaluator.add(make_sample(truth, of_truth), make_detections(found, values, of_found))
        return evaluator.summary(0.5)

    return make


def test_one_hit_one_miss(scores, rectangles):
    # Precision 1 up to recall 0.5, none beyond: 51 of the 101 recalls 0, 0.01 … 1.
    truth = rectangles((0, 0, 5, 5), (10, 10, 15, 15))
    found = scores((truth, truth[:1], [0.9]))
    for name in ("mask_ap", "mask_ap10", "mask_ap50", "mask_ap75", "box_ap", "box_ap10", "box_ap50", "box_ap75"):
        assert found[name] == found[f"{name}/nodule"] == pytest.approx(51 / 101)


def test_false_positive_before_the_hit(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    found = scores((truth, rectangles((10, 10, 15, 15), (0, 0, 5, 5)), [0.9, 0.8]))
    assert found["mask_ap50"] == found["box_ap50"] == pytest.approx(0.5)


def test_false_positive_after_the_hit_costs_nothing(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    assert scores((truth, rectangles((0, 0, 5, 5), (10, 10, 15, 15)), [0.9, 0.8]))["mask_ap50"] == pytest.approx(1)


@pytest.mark.parametrize(("instances", "used"), [(100, 100), (101, 202)])
def test_more_than_100_instances_can_all_be_found(scores, rectangles, instances, used):
    truth = rectangles(
        *((4 * (i % 12), 4 * (i // 12), 4 * (i % 12) + 2, 4 * (i // 12) + 2) for i in range(instances)), side=50
    )
    # Behind `used` false positives of a higher score nothing is seen.
    false = np.zeros_like(truth[[0] * used])
    false[:, -1, -1] = True
    behind = scores((truth, np.concatenate([false, truth]), [0.9] * used + [0.8] * instances))
    assert scores((truth, truth, [0.8] * instances))["mask_ap50"] == pytest.approx(1)
    assert behind["mask_ap50"] == 0 < scores((truth, np.concatenate([false[1:], truth]),
                                              [0.9] * (used - 1) + [0.8] * instances))["mask_ap50"]  # fmt: skip


def test_second_detection_of_an_instance_is_false(scores, rectangles):
    # Ranks: hit, double, hit. Precision 1 up to recall 1/2, then 2/3: 51 recalls and 50.
    truth = rectangles((0, 0, 5, 5), (10, 10, 15, 15))
    found = scores((truth, truth[[0, 0, 1]], [0.9, 0.8, 0.7]))
    assert found["mask_ap50"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_false_positive_in_an_image_without_instances(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    found = scores((truth, truth, [0.8]), (rectangles(), truth, [0.9]))
    assert found["mask_ap50"] == pytest.approx(0.5)


def test_thresholds(scores, rectangles):
    # 62 of the 100 pixels: IoU 0.62 passes 0.1, 0.5, 0.55 and 0.6 only.
    truth = rectangles((0, 0, 10, 10))
    part = rectangles((0, 0, 10, 6))
    part[0, 6, :2] = True
    found = scores((truth, part, [0.9]))
    assert (found["mask_ap10"], found["mask_ap50"], found["mask_ap75"]) == pytest.approx((1, 1, 0))
    assert found["mask_ap"] == pytest.approx(0.3)


def test_box_and_mask_apart(scores, rectangles):
    # A square, and an L along two of its sides with the same box but 36 of its 100 pixels.
    truth = rectangles((0, 0, 10, 10))
    corner = truth & ~rectangles((2, 2, 10, 10))
    found = scores((truth, corner, [0.9]))
    assert found["box_ap"] == pytest.approx(1)
    assert (found["mask_ap10"], found["mask_ap50"]) == pytest.approx((1, 0))


def test_sizes(scores, rectangles):
    # 10², 40² and 100² pixels; the medium one is missed.
    truth = rectangles((0, 0, 10, 10), (20, 0, 60, 40), (20, 50, 120, 150), side=150)
    found = scores((truth, truth[[0, 2]], [0.9, 0.8]))
    for prefix in ("mask", "box"):
        sizes = [found[f"{prefix}_ap_{size}"] for size in ("small", "medium", "large")]
        assert sizes == pytest.approx([1, 0, 1])


def test_size_is_that_of_the_mask(scores, rectangles):
    # A thin cross of 40×40 pixels: its box is medium, its mask of 79 pixels small.
    cross = rectangles((20, 0, 21, 40), side=40) | rectangles((0, 20, 40, 21), side=40)
    found = scores((cross, cross, [0.9]))
    assert found["mask_ap_small"] == pytest.approx(1)
    assert "mask_ap_medium" not in found


def test_class_without_truth_is_absent_and_outside_the_mean(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    found = scores(
        (truth, rectangles((0, 0, 5, 5), (10, 10, 15, 15)), [0.9, 0.8], [2], [2, 1]), class_names=("iso", "hypo")
    )
    assert found["mask_ap"] == found["mask_ap/hypo"] == pytest.approx(1)
    assert not {"mask_ap/iso", "mask_ap50/iso", "box_ap/iso"} & set(found)


def test_wrong_class_is_no_hit(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    found = scores((truth, truth, [0.9], [1], [2]), class_names=("iso", "hypo"))
    assert found["mask_ap"] == 0


def test_hundred_detections_an_image(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    false = np.repeat(rectangles((10, 10, 15, 15)), 100, axis=0)
    many = np.concatenate([false, truth])
    falling = np.linspace(0.9, 0.1, 101)
    assert scores((truth, many, falling))["mask_ap50"] == 0
    assert scores((truth, many[1:], falling[1:]))["mask_ap50"] == pytest.approx(1 / 100)


def test_nothing_detected_and_nothing_true(scores, rectangles):
    truth = rectangles((0, 0, 5, 5))
    assert scores((truth, rectangles(), []))["mask_ap"] == 0
    for images in ([], [(rectangles(), rectangles(), [])], [(rectangles(), truth, [0.9])]):
        assert not [name for name in scores(*images) if "_ap" in name]


def test_empty_masks_are_legal(scores, rectangles):
    truth, nothing = rectangles((0, 0, 5, 5)), rectangles((0, 0, 0, 0))
    assert scores((truth, np.concatenate([nothing, truth]), [0.9, 0.8]))["mask_ap50"] == pytest.approx(0.5)


def from_disk(folder, pairs, kind, ious=None):
    """The plain COCO API on files written here with pycocotools' own encoder."""

    def coded(mask):
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(code["size"]), "counts": code["counts"].decode()}

    images, annotations, results = [], [], []
    for image_id, (sample, found) in enumerate(pairs, start=1):
        images.append({"id": image_id, "height": sample.image.shape[0], "width": sample.image.shape[1]})
        for mask, class_id in zip(sample.masks, sample.class_ids, strict=True):
            rows, columns = np.nonzero(mask)
            x, y = int(columns.min()), int(rows.min())
            box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
            known = {"image_id": image_id, "category_id": int(class_id), "iscrowd": 0}
            annotations.append(
                {**known, "id": len(annotations) + 1, "bbox": box, "area": int(mask.sum()), "segmentation": coded(mask)}
            )
        for mask, box, class_id, score in zip(found.masks, found.boxes, found.class_ids, found.scores, strict=True):
            one = {"image_id": image_id, "category_id": int(class_id), "score": float(score)}
            x1, y1, x2, y2 = (float(edge) for edge in box)
            results.append(
                one | ({"segmentation": coded(mask)} if kind == "segm" else {"bbox": [x1, y1, x2 - x1, y2 - y1]})
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    (folder / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (folder / "results.json").write_text(json.dumps(results))
    return run_plain(folder, kind, ious)


def run_plain(folder, kind, ious=None):
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(folder / "truth.json")
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), kind)
        if ious:
            evaluation.params.iouThrs = np.array(ious)
        evaluation.evaluate()
        evaluation.accumulate()
        if not ious:
            evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("prefix", "kind"), [("mask", "segm"), ("box", "bbox")])
def test_against_files_and_the_plain_api(tmp_path, random_pairs, evaluated, seed, prefix, kind):
    pairs = random_pairs(seed, images=15)
    evaluator = evaluated(pairs)
    found = evaluator.summary(0.5)
    plain = from_disk(tmp_path, pairs, kind)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    expected = {f"{prefix}_{name}": value for name, value in zip(names, plain.stats, strict=False) if value > -1}
    assert len(expected) >= 5
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    for position, name in enumerate(CLASS_NAMES):
        assert found[f"{prefix}_ap/{name}"] == pytest.approx(plain.eval["precision"][:, :, position, 0, 2].mean())
        assert found[f"{prefix}_ap50/{name}"] == pytest.approx(plain.eval["precision"][0, :, position, 0, 2].mean())
    at_tenth = from_disk(tmp_path, pairs, kind, ious=[0.1])
    assert found[f"{prefix}_ap10"] == pytest.approx(at_tenth.eval["precision"][:, :, :, 0, 2].mean())
    if prefix == "mask":
        for position, name in enumerate(CLASS_NAMES):
            recall, precision = evaluator.pr_curves()[name]
            assert recall.tolist() == plain.params.recThrs.tolist()
            assert precision == pytest.approx(plain.eval["precision"][0, :, position, 0, 2])


@pytest.mark.parametrize(("prefix", "kind"), [("mask", "segm"), ("box", "bbox")])
def test_written_files_give_the_same(tmp_path, evaluated, prefix, kind):
    evaluator = evaluated(7, images=10)
    results = evaluator.coco_results()
    if kind == "segm":
        results = [{name: value for name, value in one.items() if name != "bbox"} for one in results]
    (tmp_path / "truth.json").write_text(json.dumps(evaluator.coco_ground_truth()))
    (tmp_path / "results.json").write_text(json.dumps(results))
    plain = run_plain(tmp_path, kind)
    found = evaluator.summary(0.5)
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    expected = [value for value in plain.stats[:6] if value > -1]
    assert [found[f"{prefix}_{name}"] for name in names if f"{prefix}_{name}" in found] == pytest.approx(expected)


def test_quiet(capsys, evaluated):
    evaluator = evaluated(0, images=3)
    evaluator.summary(0.5)
    assert capsys.readouterr() == ("", "")


def test_input_is_left_as_it_was(evaluated):
    evaluator = evaluated(0, images=5)
    truth, results = evaluator.coco_ground_truth(), evaluator.coco_results()
    coco_ap.evaluate(truth, results, "segm")
    assert truth == evaluator.coco_ground_truth()
    assert results == evaluator.coco_results()


IMAGES = 6


@pytest.fixture(scope="module")
def resampled(random_pairs, evaluated):
    pairs = random_pairs(11, IMAGES)
    evaluator = evaluated(pairs)
    truth, results = evaluator.coco_ground_truth(), evaluator.coco_results()
    return pairs, {
        prefix: coco_ap.evaluate(truth, results, kind) for prefix, kind in (("mask", "segm"), ("box", "bbox"))
    }


def named(prefix):
    names = ("ap", "ap10", "ap50", "ap75")
    of_classes = [f"{name}/{class_name}" for name in names for class_name in CLASS_NAMES]
    return [f"{prefix}_{name}" for name in (*names, *of_classes, "ap_small", "ap_medium", "ap_large")]


@settings(max_examples=25)
@given(weights=st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES))
def test_weights_are_repeated_images(resampled, evaluated, weights):
    """COCOeval itself on the images, each as often as its weight says."""
    pairs, scores = resampled
    repeated = [pair for pair, times in zip(pairs, weights, strict=True) for _ in range(times)]
    expected = evaluated(repeated).summary(0.5)
    for prefix in ("mask", "box"):
        found = resampled_average_precisions(scores[prefix], CLASS_NAMES, np.array([weights], float), prefix)
        for name in named(prefix):
            assert found[name][0] == pytest.approx(expected.get(name, np.nan), nan_ok=True)


def test_rows_are_independent(resampled):
    _, scores = resampled
    weights = np.random.default_rng(0).integers(0, 4, (7, IMAGES)).astype(float)
    together = resampled_average_precisions(scores["mask"], CLASS_NAMES, weights, "mask")
    for row, one in enumerate(weights):
        alone = resampled_average_precisions(scores["mask"], CLASS_NAMES, one[None], "mask")
        assert [together[name][row] for name in named("mask")] == pytest.approx(
            [alone[name][0] for name in named("mask")], nan_ok=True
        )


def test_no_instance_left(resampled):
    _, scores = resampled
    found = resampled_average_precisions(scores["mask"], CLASS_NAMES, np.zeros((1, IMAGES)), "mask")
    assert all(np.isnan(value[0]) for value in found.values())
