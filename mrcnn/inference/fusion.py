"""What several networks, or several views of an image, found, as one answer.

Boxes and scores are fused as in weighted boxes fusion (Solovyev, Wang & Gabruseva 2021, arXiv:1910.13302, section 3),
class by class; the masks of the instances that became one are averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt

from mrcnn.detections import Detections
from mrcnn.instance_masks import EMPTY, Crop, InstanceMasks

OVERLAP = 0.55
"""Box IoU above which two detections are taken for one instance; the paper's choice (section 4)."""


def fuse_detections(members: Sequence[Detections], *, overlap: float = OVERLAP, most: int | None = None) -> Detections:
    """One answer from those of N members for the same image.

    Detections of a class are taken best score first. Each joins the fused box that it overlaps most, if by more than
    `overlap`, or begins one. A fused box is the mean of its T boxes weighted by their scores, and its score the mean
    score times min(T, N) / N, so that what one member alone found counts little (section 3 of the paper). A pixel is in
    the fused mask where more than half of the T masks hold it; where exactly half do, which two members often come
    to, the outline half-way between theirs decides: the mean of their signed distances to it (shape-based
    interpolation, Raya & Udupa 1990).

    The order of `members` does not matter. The same detections N times are these detections, as long as no two of a
    class overlap by more than `overlap`: set it to the members' own limit of non-maximum suppression where that is
    higher.

    Args:
        members: N ≥ 1, of the same image size.
        overlap: IoU, 0 … 1.
        most: of the fused detections the best so many are kept; None keeps all.

    Raises:
        ValueError: no member, or masks of different sizes.
    """
    sizes = {member.instances.shape[1:] for member in members}
    if len(sizes) != 1:
        raise ValueError(f"members' masks are of sizes {sorted(sizes)}, expected one size")
    height, width = sizes.pop()
    groups = [group for class_id in _classes(members) for group in _clusters(members, class_id, overlap)]
    if not groups:
        return Detections.empty(height, width)
    scores = np.array([_score(members, group) for group in groups], np.float32)
    order = np.argsort(-scores, kind="stable")[:most]
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
"""Detections that became one, each as (member, row)."""


def _classes(members: Sequence[Detections]) -> list[int]:
    return sorted({int(class_id) for member in members for class_id in member.class_ids})


def _clusters(members: Sequence[Detections], class_id: int, overlap: float) -> list[Group]:
    groups: list[Group] = []
    fused = np.zeros((0, 4))
    for member, row in _best_first(members, class_id):
        ious = _ious(fused, members[member].boxes[row].astype(np.float64))
        best = int(np.argmax(ious)) if len(ious) else 0
        if not len(ious) or ious[best] <= overlap:
            best = len(groups)
            groups.append([])
            fused = np.concatenate([fused, np.zeros((1, 4))])
        groups[best].append((member, row))
        fused[best] = _box(members, groups[best])
    return groups


def _best_first(members: Sequence[Detections], class_id: int) -> Iterator[tuple[int, int]]:
    """The detections of a class, best score first, those of equal score in an order that tells nothing of members."""
    keys = {}
    for number, member in enumerate(members):
        for row in np.flatnonzero(member.class_ids == class_id):
            keys[number, int(row)] = (-float(member.scores[row]), *member.boxes[row].tolist())
    times = Counter(keys.values())
    # Only those with the same score and box are told apart by their masks, which takes long.
    full = {
        (number, row): (key, members[number].instances.mask(row).tobytes() if times[key] > 1 else b"")
        for (number, row), key in keys.items()
    }
    return iter(sorted(full, key=full.__getitem__))


def _ious(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """(M,) IoU of `box` (4,) with each of `boxes` (M, 4); 0 with an empty one."""
    sides = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0)
    both = sides.prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - both
    return np.divide(both, union, out=np.zeros(len(boxes)), where=union > 0)


def _scores(members: Sequence[Detections], group: Group) -> np.ndarray:
    return np.array([members[member].scores[row] for member, row in group], np.float64)


def _score(members: Sequence[Detections], group: Group) -> float:
    return float(_scores(members, group).mean() * min(len(group), len(members)) / len(members))


def _box(members: Sequence[Detections], group: Group) -> np.ndarray:
    """(4,) float64."""
    weights = _scores(members, group)
    boxes = np.array([members[member].boxes[row] for member, row in group], np.float64)
    return np.average(boxes, axis=0, weights=weights if weights.sum() > 0 else None)


def _mask(masks: Sequence[Crop]) -> Crop:
    """The mean of T masks, cut at a half."""
    if len(masks) == 1:
        return masks[0]
    seen = [mask for mask in masks if mask.pixels.size]
    if not seen:
        return EMPTY
    top, left = min(mask.top for mask in seen), min(mask.left for mask in seen)
    bottom = max(mask.top + mask.pixels.shape[0] for mask in seen)
    right = max(mask.left + mask.pixels.shape[1] for mask in seen)
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
    """(H, W) distance of each pixel's centre to the nearest one of the other side, negative outside the mask.

    Beyond the picture nothing belongs to the mask. Of an empty mask every pixel is as far out as the picture is large.
    """
    if not mask.any():
        return np.full(mask.shape, -float(np.hypot(*mask.shape)))
    padded = np.pad(mask, 1)
    return (distance_transform_edt(padded) - distance_transform_edt(~padded))[1:-1, 1:-1]
