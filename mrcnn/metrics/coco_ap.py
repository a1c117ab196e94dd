"""Compute COCO average precision (Lin et al. 2014, https://cocodataset.org/#detection-eval) with pycocotools.

AP is the mean precision at 101 recalls, where the precision is the highest one at any higher recall. It uses at most
100 detections per image and class or, if an image has more instances of a class, twice the most of them. Crowds
(`iscrowd`) and detections in them are ignored. Sizes are those of COCO, small below 32² pixels, large from 96², medium
between: by mask area for instances, and for detections by mask area (masks) or box area (boxes). Means are over IoU
thresholds and classes; a class or size without instances has no AP and is excluded from every mean. Images without
instances contribute their false positives.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.metrics.case import Case
from mrcnn.metrics.operating_point import ratio
from mrcnn.rle import Rle, areas, as_json, coco_boxes

IOUS = np.concatenate([[0.1], np.linspace(0.5, 0.95, 10)])
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
"""Detections per image and class in COCO, whose images have no more instances of a class than that."""
SIZES = ("all", "small", "medium", "large")
NAMED_IOUS: dict[str, slice] = {"ap": slice(1, 11), "ap10": slice(0, 1), "ap50": slice(1, 2), "ap75": slice(6, 7)}
"""Range of `IOUS` that each AP averages; `ap` is that of COCO, 0.5 to 0.95."""


@dataclass(frozen=True)
class Ranked:
    """Store all detections of one class, best score first, as matched by COCOeval.

    Attributes:
        image: (D,) int, index of the image.
        hits: (T, D) bool, true positives at each of `IOUS`.
        ignored: (T, D) bool, detections in a crowd.
        instances: (I,) int, number of instances of the class per image.
    """

    image: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class CocoScores:
    """Store the results of COCOeval.

    Attributes:
        precision: (T, 101, K, A) float64 at `IOUS`, `RECALLS`, classes and `SIZES`; -1 without instances.
        ranked: detections of each class for each of `SIZES`.
    """

    precision: np.ndarray
    ranked: tuple[tuple[Ranked, ...], ...]


def evaluate(truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Literal["segm", "bbox"]) -> CocoScores:
    """Run COCOeval on COCO dicts in memory, without its printed output.

    Args:
        truth: COCO data set with ids from 1 (COCOeval uses 0 for unmatched).
        results: COCO results with both `segmentation` (RLE) and `bbox`.
        kind: IoU of masks (`segm`) or boxes (`bbox`).

    Example:
        Two instances; the only detection has a mask IoU of 1, which gives precision 1 up to recall 0.5 (51 of 101).

        >>> from mrcnn.rle import encode
        >>> masks = np.zeros((2, 8, 8), bool)
        >>> masks[0, :4, :4] = masks[1, 5:, 5:] = True
        >>> runs = [as_json(run) for run in encode(masks)]
        >>> boxes = [[0, 0, 4, 4], [5, 5, 3, 3]]
        >>> annotations = [
        ...     {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 16, "iscrowd": 0, "segmentation": run}
        ...     for n, (box, run) in enumerate(zip(boxes, runs), start=1)]
        >>> truth = {"images": [{"id": 1, "height": 8, "width": 8}], "categories": [{"id": 1, "name": "iso"}],
        ...          "annotations": annotations}
        >>> found = [{"image_id": 1, "category_id": 1, "score": 0.9, "bbox": boxes[0], "segmentation": runs[0]}]
        >>> scores = evaluate(truth, found, "segm")
        >>> round(average_precisions(scores, ("iso",), "mask")["mask_ap50"], 4)  # 51 / 101
        0.505
        >>> recall, precision = precision_recall(scores, ("iso",))["iso"]
        >>> recall[[50, 51]].tolist(), precision[[50, 51]].round(3).tolist()
        ([0.5, 0.51], [1.0, 0.0])
        >>> twice = resampled_average_precisions(scores, ("iso",), np.array([[2.0]]), "mask")["mask_ap50/iso"]
        >>> twice.round(4).tolist()  # the same image twice has the same AP
        [0.505]
    """
    if kind == "segm":
        area = areas([one["segmentation"] for one in results]).tolist()
    else:
        area = [one["bbox"][2] * one["bbox"][3] for one in results]
    found = [
        {**one, "id": number, "area": size, "iscrowd": 0}
        for number, (one, size) in enumerate(zip(results, area, strict=True), start=1)
    ]
    # COCOeval writes into the annotations, hence the copies.
    with contextlib.redirect_stdout(io.StringIO()):
        true_set = _index({**truth, "annotations": [dict(one) for one in truth["annotations"]]})
        evaluation = COCOeval(true_set, _index({**truth, "annotations": found}), kind)
        evaluation.params.iouThrs = IOUS
        evaluation.params.recThrs = RECALLS  # pyright: ignore[reportAttributeAccessIssue]  # stub: a list
        instances = Counter((one["image_id"], one["category_id"]) for one in truth["annotations"])
        most = max(instances.values(), default=0)
        evaluation.params.maxDets = [MAX_DETECTIONS if most <= MAX_DETECTIONS else 2 * most]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]
    images = len(evaluation.params.imgIds)
    matches: list[Any] = evaluation.evalImgs  # by class, then size, then image
    starts = np.arange(precision.shape[2] * len(SIZES)).reshape(-1, len(SIZES)) * images
    ranked = tuple(tuple(_rank(matches[start : start + images]) for start in of_size) for of_size in starts.T)
    return CocoScores(precision, ranked)


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset  # pyright: ignore[reportAttributeAccessIssue]  # stub: a private TypedDict
    coco.createIndex()
    return coco


def _rank(matches: Sequence[dict[str, Any] | None]) -> Ranked:
    """Collect one class from COCOeval's matches per image (None without instances and detections)."""
    instances = np.array([0 if one is None else int((one["gtIgnore"] == 0).sum()) for one in matches], np.int64)
    present = [(image, one) for image, one in enumerate(matches) if one is not None]
    if not present:
        none = np.zeros((len(IOUS), 0), bool)
        return Ranked(np.zeros(0, np.int64), none, none, instances)
    image = np.concatenate([np.full(len(one["dtIds"]), number, np.int64) for number, one in present])
    scores = np.concatenate([one["dtScores"] for _, one in present])
    ignored = np.concatenate([one["dtIgnore"] > 0 for _, one in present], axis=1)
    hits = np.concatenate([one["dtMatches"] > 0 for _, one in present], axis=1) & ~ignored
    order = np.argsort(-scores, kind="stable")
    return Ranked(image[order], hits[:, order], ignored[:, order], instances)


def average_precisions(scores: CocoScores, class_names: Sequence[str], prefix: str) -> dict[str, float]:
    """Compute `<prefix>_ap`, `_ap10`, `_ap50`, `_ap75`, each also as `…/<class>`, and `_ap_small|medium|large`.

    Undefined values are absent. Example: see `evaluate`.
    """
    everything = scores.precision[..., 0]
    values = {}
    for name, positions in NAMED_IOUS.items():
        values[f"{prefix}_{name}"] = _mean(everything[positions])
        for position, class_name in enumerate(class_names):
            values[f"{prefix}_{name}/{class_name}"] = _mean(everything[positions, :, position])
    for position, size in enumerate(SIZES[1:], start=1):
        values[f"{prefix}_ap_{size}"] = _mean(scores.precision[NAMED_IOUS["ap"], ..., position])
    return {name: value for name, value in values.items() if value is not None}


def _mean(precision: np.ndarray) -> float | None:
    defined = precision[precision > -1]
    return float(defined.mean()) if len(defined) else None


def precision_recall(scores: CocoScores, class_names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Compute class → (recall, precision), each (101,), at IoU 0.5; classes without instances are absent.

    Example: see `evaluate`.
    """
    curves = scores.precision[NAMED_IOUS["ap50"].start, :, :, 0]
    return {
        name: (RECALLS.copy(), curves[:, position].copy())
        for position, name in enumerate(class_names)
        if curves[0, position] > -1
    }


def resampled_average_precisions(
    scores: CocoScores, class_names: Sequence[str], weights: np.ndarray, prefix: str
) -> dict[str, np.ndarray]:
    """Compute the values of `average_precisions`, (B,) each, for rows of `weights` (B, I).

    A class without instances in a resample is excluded from its mean; NaN if no class remains. Values by size are
    computed for `_ap` over all classes. Example: see `evaluate`.
    """
    per_class = np.stack([_class_ap(ranked, weights) for ranked in scores.ranked[0]])  # (K, B, T)
    values = {}
    for name, positions in NAMED_IOUS.items():
        of_classes = per_class[:, :, positions].mean(axis=2)
        values[f"{prefix}_{name}"] = _mean_of_defined(of_classes)
        values |= {f"{prefix}_{name}/{each}": of_classes[k] for k, each in enumerate(class_names)}
    for size, ranked in zip(SIZES[1:], scores.ranked[1:], strict=True):
        of_classes = [_class_ap(each, weights, NAMED_IOUS["ap"]).mean(axis=1) for each in ranked]
        values[f"{prefix}_ap_{size}"] = _mean_of_defined(np.stack(of_classes))
    return values


def _mean_of_defined(of_classes: np.ndarray) -> np.ndarray:
    """Average (K, B) over the classes that are not NaN: (B,)."""
    return ratio(np.nan_to_num(of_classes).sum(axis=0), (~np.isnan(of_classes)).sum(axis=0))


def _class_ap(ranked: Ranked, weights: np.ndarray, positions: slice = slice(None)) -> np.ndarray:
    """Compute the AP (B, T) of one class at `positions` of `IOUS`; NaN if the resample has no instance of the class."""
    instances = weights @ ranked.instances
    of_thresholds = list(zip(ranked.hits[positions], ranked.ignored[positions], strict=True))
    result = np.full((len(weights), len(of_thresholds)), np.nan)
    if not instances.any():
        return result
    # Between true positives the precision only decreases, so the interpolated precision needs them alone.
    counted = weights[:, ranked.image]
    all_seen = np.cumsum(counted, axis=1)
    for threshold, (hits, ignored) in enumerate(of_thresholds):
        seen = np.cumsum(counted * ~ignored, axis=1) if ignored.any() else all_seen
        at = np.flatnonzero(hits)
        found = np.cumsum(counted[:, at], axis=1)
        precision = np.divide(found, seen[:, at], out=np.zeros_like(found), where=seen[:, at] > 0)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        interpolated = np.pad(interpolated, ((0, 0), (0, 1)))  # precision 0 at recalls that are not reached
        for row in np.flatnonzero(instances):
            reached = np.searchsorted(found[row] / instances[row], RECALLS, side="left")
            result[row, threshold] = interpolated[row, reached].mean()
    return result


def coco_ground_truth(cases: Sequence[Case], class_names: Sequence[str]) -> dict[str, Any]:
    """Build a COCO data set for JSON: masks as run lengths, `iscrowd` 1 for crowds, ids from 1.

    Example: see `coco_results`.
    """
    images, annotations = [], []
    for image_id, case in enumerate(cases, start=1):
        size = {"height": int(case.height), "width": int(case.width)}
        images.append({"id": image_id, "file_name": case.source, **size, "patient_id": case.patient_id})
        masks, classes = [*case.truth, *case.crowds], [*case.truth_classes, *case.crowd_classes]
        boxes, pixels = coco_boxes(masks).tolist(), areas(masks).tolist()
        for number, (class_id, mask, box, area) in enumerate(zip(classes, masks, boxes, pixels, strict=True)):
            facts = {"area": area, "iscrowd": int(number >= len(case.truth))}
            annotations.append({"id": len(annotations) + 1, **_entry(image_id, class_id, box, mask), **facts})
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_results(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Build COCO results for JSON, with box and mask of each detection.

    pycocotools uses the box area of results with a box: remove `bbox` before `loadRes` to reproduce mask AP by size.

    Example:
        >>> from mrcnn.data.sample import Sample
        >>> from mrcnn.detections import Detections
        >>> from mrcnn.metrics.case import make_case
        >>> mask, ids = np.zeros((1, 6, 6), bool), np.array([1], np.int32)
        >>> mask[0, 1:3, 1:4] = True
        >>> sample = Sample(np.zeros((6, 6, 1), np.uint8), mask, ids, "anna", "a.png")
        >>> found = Detections(np.array([[1, 1, 4, 3]], np.float32), np.array([0.5], np.float32), ids, mask)
        >>> cases = [make_case(sample, found, 1)]
        >>> coco_results(cases)[0]["bbox"], coco_results(cases)[0]["score"]
        ([1.0, 1.0, 3.0, 2.0], 0.5)
        >>> coco_ground_truth(cases, ("iso",))["annotations"][0]["area"]
        6
    """
    return [
        {**_entry(image_id, class_id, box, mask), "score": float(score)}
        for image_id, case in enumerate(cases, start=1)
        for class_id, score, box, mask in zip(
            case.classes, case.scores, case.boxes.tolist(), case.predicted, strict=True
        )
    ]


def _entry(image_id: int, class_id: int, box: list[float], mask: Rle) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": int(class_id), "bbox": box, "segmentation": as_json(mask)}
