"""Average precision by pycocotools' COCOeval, on COCO dicts in memory and without its printing.

At most 100 detections an image and class. Crowds (`iscrowd`) count as nothing, and so do detections in them. Sizes are
COCO's: small below 32² pixels, large from 96², medium between, by mask area for instances; detections are sized by mask
area for masks and by box area for boxes. The AP of a class or size without instances is undefined and stays out of
every mean.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.metrics import rle
from mrcnn.metrics.case import Case
from mrcnn.metrics.rle import areas, as_json, coco_boxes

IOUS = np.concatenate([[0.1], np.linspace(0.5, 0.95, 10)])
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
SIZES = ("all", "small", "medium", "large")
NAMED_IOUS: dict[str, slice] = {"ap": slice(1, 11), "ap10": slice(0, 1), "ap50": slice(1, 2), "ap75": slice(6, 7)}
"""Positions in `IOUS` that each named AP is a mean over; `ap` is COCO's own, .5 to .95."""


@dataclass(frozen=True)
class Ranked:
    """All detections of one class, best score first, as COCOeval matched them.

    Attributes:
        image: (D,) int, position of the image.
        hits: (T, D) bool at each of `IOUS`.
        ignored: (T, D) bool, detections that lie in a crowd and count as nothing.
        instances: (I,) int, instances of the class in each image.
    """

    image: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class CocoScores:
    """COCOeval's answer.

    Attributes:
        precision: (T, 101, K, A) float64 at `IOUS`, `RECALLS`, classes and `SIZES`; -1 where there is no instance.
        ranked: for each class.
    """

    precision: np.ndarray
    ranked: tuple[Ranked, ...]


def evaluate(truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Literal["segm", "bbox"]) -> CocoScores:
    """Run COCOeval.

    Args:
        truth: COCO data set, its ids counted from 1 (COCOeval takes 0 for unmatched).
        results: COCO results with both `segmentation` (RLE) and `bbox`.
        kind: what IoU is taken of.
    """
    if kind == "segm":
        area = rle.areas([one["segmentation"] for one in results]).tolist()
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
        evaluation.params.recThrs = RECALLS
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]
    images = len(evaluation.params.imgIds)
    per_class = len(SIZES) * images
    ranked = [
        _rank(evaluation.evalImgs[position * per_class : position * per_class + images])
        for position in range(precision.shape[2])
    ]
    return CocoScores(precision, tuple(ranked))


def _index(dataset: dict[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dataset
    coco.createIndex()
    return coco


def _rank(matches: Sequence[dict[str, Any] | None]) -> Ranked:
    """Of one class, from COCOeval's match of each image (None where it has neither instance nor detection)."""
    instances = np.array([0 if one is None else int((one["gtIgnore"] == 0).sum()) for one in matches], np.int64)
    kept = [(image, one) for image, one in enumerate(matches) if one is not None]
    if not kept:
        none = np.zeros((len(IOUS), 0), bool)
        return Ranked(np.zeros(0, np.int64), none, none, instances)
    image = np.concatenate([np.full(len(one["dtIds"]), number, np.int64) for number, one in kept])
    scores = np.concatenate([one["dtScores"] for _, one in kept])
    ignored = np.concatenate([one["dtIgnore"] > 0 for _, one in kept], axis=1)
    hits = np.concatenate([one["dtMatches"] > 0 for _, one in kept], axis=1) & ~ignored
    order = np.argsort(-scores, kind="stable")
    return Ranked(image[order], hits[:, order], ignored[:, order], instances)


def average_precisions(scores: CocoScores, class_names: Sequence[str], prefix: str) -> dict[str, float]:
    """`<prefix>_ap`, `_ap10`, `_ap50`, `_ap75`, the same as `…/<class>`, and `_ap_small`, `_medium`, `_large`.

    Undefined ones are absent.
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
    """Class → (recall, precision), each (101,), at IoU .5 over all sizes; classes without instances are absent."""
    curves = scores.precision[NAMED_IOUS["ap50"].start, :, :, 0]
    return {
        name: (RECALLS.copy(), curves[:, position].copy())
        for position, name in enumerate(class_names)
        if curves[0, position] > -1
    }


def resampled_average_precisions(scores: CocoScores, weights: np.ndarray, prefix: str) -> dict[str, np.ndarray]:
    """`<prefix>_ap`, `_ap10`, `_ap50`, `_ap75` over all classes, once for each row of `weights` (B, I).

    A class without instances in a resample stays out of its mean; NaN where that leaves no class.
    """
    per_class = np.stack([_class_ap(ranked, weights) for ranked in scores.ranked])  # (K, B, T)
    defined = ~np.isnan(per_class[:, :, 0])
    classes = defined.sum(axis=0)
    total = np.where(defined[:, :, None], per_class, 0.0).sum(axis=0)
    mean = np.where(classes[:, None] > 0, total / np.maximum(classes, 1)[:, None], np.nan)
    return {f"{prefix}_{name}": mean[:, positions].mean(axis=1) for name, positions in NAMED_IOUS.items()}


def _class_ap(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
    """(B, T), NaN where the resample holds no instance of the class."""
    instances = weights @ ranked.instances
    result = np.full((len(weights), len(IOUS)), np.nan)
    # Between hits the precision only falls: the interpolated precision is decided at the hits.
    counted = weights[:, ranked.image]
    all_seen = np.cumsum(counted, axis=1)
    for threshold, (hits, ignored) in enumerate(zip(ranked.hits, ranked.ignored, strict=True)):
        seen = np.cumsum(counted * ~ignored, axis=1) if ignored.any() else all_seen
        at = np.flatnonzero(hits)
        found = np.cumsum(counted[:, at], axis=1)
        precision = np.divide(found, seen[:, at], out=np.zeros_like(found), where=seen[:, at] > 0)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        interpolated = np.pad(interpolated, ((0, 0), (0, 1)))  # precision 0 at recalls that are never reached
        for row in np.flatnonzero(instances):
            reached = np.searchsorted(found[row] / instances[row], RECALLS, side="left")
            result[row, threshold] = interpolated[row, reached].mean()
    return result


def coco_ground_truth(cases: Sequence[Case], class_names: Sequence[str]) -> dict[str, Any]:
    """COCO data set, ready for JSON: masks as run lengths, `iscrowd` 1 for crowds, ids from 1 in the order given."""
    images, annotations = [], []
    for image_id, case in enumerate(cases, start=1):
        images.append(
            {
                "id": image_id,
                "file_name": case.source,
                "height": int(case.height),
                "width": int(case.width),
                "patient_id": case.patient_id,
            }
        )
        masks, classes = [*case.truth, *case.crowds], [*case.truth_classes, *case.crowd_classes]
        boxes, pixels = coco_boxes(masks).tolist(), areas(masks).tolist()
        for number, (class_id, mask, box, area) in enumerate(zip(classes, masks, boxes, pixels, strict=True)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(class_id),
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(number >= len(case.truth)),
                    "segmentation": as_json(mask),
                }
            )
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(class_names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_results(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """COCO results, ready for JSON, with the detection's own box and mask.

    pycocotools sizes a result that has a box by that box: remove `bbox` before `loadRes` to repeat mask AP by size.
    """
    return [
        {
            "image_id": image_id,
            "category_id": int(class_id),
            "score": float(score),
            "bbox": box,
            "segmentation": as_json(mask),
        }
        for image_id, case in enumerate(cases, start=1)
        for class_id, score, box, mask in zip(
            case.classes, case.scores, case.boxes.tolist(), case.predicted, strict=True
        )
    ]
