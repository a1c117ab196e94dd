"""Fuse the detections of several models or views of an image.

Boxes and scores are fused per class by weighted boxes fusion (Solovyev, Wang & Gabruseva 2021, arXiv:1910.13302,
section 3). The masks of fused instances are averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from mrcnn.detections import Detections
from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks

IOU_THRESHOLD = 0.55
"""Box IoU above which two detections are one instance (section 4 of the paper)."""


def fuse_detections(
    members: Sequence[Detections], *, iou_threshold: float = IOU_THRESHOLD, max_detections: int | None = None
) -> Detections:
    """Fuse the detections of N members for the same image.

    Detections of a class are processed in descending order of their scores. Each joins the fused box with the highest
    IoU if that exceeds `iou_threshold`, and starts a new one otherwise. A fused box is the mean of its T boxes weighted
    by their scores. Its score is the mean score times min(T, N) / N, so detections of few members have low scores
    (section 3 of the paper). A pixel belongs to the fused mask if more than half of the T masks contain it. If exactly
    half do, as is common with two members, the sign of the mean signed distance to the outlines decides (shape-based
    interpolation, Raya & Udupa 1990).

    The order of `members` has no effect. N copies of the same detections are fused to those detections if no two of a
    class have an IoU above `iou_threshold`; so use at least the members' threshold of non-maximum suppression.

    Args:
        members: N ≥ 1 detections of the same image size.
        iou_threshold: box IoU in [0, 1].
        max_detections: largest number of fused detections, best scores first; None for no limit.

    Raises:
        ValueError: there are no members, or the mask sizes differ.
    """
    sizes = {member.instances.shape[1:] for member in members}
    if len(sizes) != 1:
        raise ValueError(f"members' masks are of sizes {sorted(sizes)}, expected one size")
    height, width = sizes.pop()
    groups = [group for class_id in _classes(members) for group in _clusters(members, class_id, iou_threshold)]
    if not groups:
        return Detections.empty(height, width)
    scores = np.array([_score(members, group) for group in groups], np.float32)
    order = np.argsort(-scores, kind="stable")[:max_detections]
    groups = [groups[position] for position in order]
    return Detections(
        boxes=np.stack([_box(members, group) for group in groups]).astype(np.float32),
        scores=scores[order],
        class_ids=np.array([members[member].class_ids[row] for ((member, row), *_) in groups], np.int32),
        masks=InstanceMasks(
            height, width, [_mask([members[member].instances.crop(row) for member, row in group]) for group in groups]
        ),
    )


Group = list[tuple[int, int]]
"""Detections of one fused instance, each as (member, row)."""


def _classes(members: Sequence[Detections]) -> list[int]:
    return sorted({int(class_id) for member in members for class_id in member.class_ids})


def _clusters(members: Sequence[Detections], class_id: int, iou_threshold: float) -> list[Group]:
    groups: list[Group] = []
    fused = np.zeros((0, 4))
    for member, row in _best_first(members, class_id):
        ious = _ious(fused, members[member].boxes[row].astype(np.float64))
        best = int(np.argmax(ious)) if len(ious) else 0
        if not len(ious) or ious[best] <= iou_threshold:
            best = len(groups)
            groups.append([])
            fused = np.concatenate([fused, np.zeros((1, 4))])
        groups[best].append((member, row))
        fused[best] = _box(members, groups[best])
    return groups


def _best_first(members: Sequence[Detections], class_id: int) -> Iterator[tuple[int, int]]:
    """Yield the detections of a class, best score first, in an order independent of the order of members."""
    keys = {}
    for number, member in enumerate(members):
        for row in np.flatnonzero(member.class_ids == class_id):
            keys[number, int(row)] = (-float(member.scores[row]), *member.boxes[row].tolist())
    counts = Counter(keys.values())
    # Only detections of equal score and box are compared by their masks, which is slow.
    full = {
        (number, row): (key, members[number].instances.mask(row).tobytes() if counts[key] > 1 else b"")
        for (number, row), key in keys.items()
    }
    return iter(sorted(full, key=full.__getitem__))


def _ious(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the IoU (M,) of `box` (4,) with each of `boxes` (M, 4); 0 for empty boxes."""
    sides = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0)
    both = sides.prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - both
    return np.divide(both, union, out=np.zeros(len(boxes)), where=union > 0)


def _scores(members: Sequence[Detections], group: Group) -> np.ndarray:
    return np.array([members[member].scores[row] for member, row in group], np.float64)


def _score(members: Sequence[Detections], group: Group) -> float:
    return float(_scores(members, group).mean() * min(len(group), len(members)) / len(members))


def _box(members: Sequence[Detections], group: Group) -> np.ndarray:
    """Return the fused box (4,) float64."""
    weights = _scores(members, group)
    boxes = np.array([members[member].boxes[row] for member, row in group], np.float64)
    return np.average(boxes, axis=0, weights=weights if weights.sum() > 0 else None)


def _mask(masks: Sequence[Crop]) -> Crop:
    """Return the mean of T masks, thresholded at 0.5."""
    if len(masks) == 1:
        return masks[0]
    nonempty = [mask for mask in masks if mask.pixels.size]
    if not nonempty:
        return EMPTY
    top, left = min(mask.top for mask in nonempty), min(mask.left for mask in nonempty)
    bottom = max(mask.top + mask.pixels.shape[0] for mask in nonempty)
    right = max(mask.left + mask.pixels.shape[1] for mask in nonempty)
    parts = np.zeros((len(masks), bottom - top, right - left), bool)
    for part, mask in zip(parts, masks, strict=True):
        part[mask._replace(top=mask.top - top, left=mask.left - left).slices] = mask.pixels
    votes = parts.sum(axis=0)
    inside = 2 * votes > len(masks)
    undecided = 2 * votes == len(masks)
    if undecided.any():
        inside |= undecided & (np.sum([_signed_distance(part) for part in parts], axis=0) >= 0)
    return Crop(top, left, inside).tight()


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Return the distance (H, W) of each pixel to the nearest pixel across the outline, negative outside the mask.

    Pixels outside the image are outside the mask. For an empty mask all distances are minus the image diagonal.
    """
    if not mask.any():
        return np.full(mask.shape, -float(np.hypot(*mask.shape)))
    padded = np.pad(mask, 1)
    inside, outside = np.asarray(distance_transform_edt(padded)), np.asarray(distance_transform_edt(~padded))
    return (inside - outside)[1:-1, 1:-1]
