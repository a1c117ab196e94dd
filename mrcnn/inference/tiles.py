"""Detect the instances of a large image in overlapping tiles, and merge those that tiles share.

A network that sees a whole slide at its input size loses small instances. In tiles it sees them at full resolution, and
memory depends on the tile, not on the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mrcnn.detections import Detections
from mrcnn.instance_masks import Crop, InstanceMasks

OVERLAP = 0.25
"""Least overlap of neighboring tiles in sides of a tile; a smaller instance is whole in one of them."""
LEAST_SHARED = 0.5
"""Least overlap of two masks, within the pixels that both tiles have, above which they are one instance."""


def detect_in_tiles(
    find: Callable[[Sequence[np.ndarray]], list[Detections]],
    images: Sequence[np.ndarray],
    tile: int | None,
    *,
    batch_size: int = 4,
) -> list[Detections]:
    """Detect the instances of images (H, W, C) or (H, W) in tiles of `tile` × `tile` pixels.

    An image that is not larger than a tile is detected as a whole. See `merge_tiles` for instances in several tiles.

    Args:
        find: images → detections of each, of any size.
        images: the images; their tiles share batches.
        tile: side of a tile in pixels; None: each image is detected as a whole.
        batch_size: tiles for one call of `find`.
    """
    if tile is None:
        return find(images)
    corners = [tile_corners(image.shape[0], image.shape[1], tile) for image in images]
    places = [(image, top, left) for image, each in zip(images, corners, strict=True) for top, left in each]
    found: list[Detections] = []
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        found += find([image[top : top + tile, left : left + tile] for image, top, left in batch])
    merged, first = [], 0
    for image, each in zip(images, corners, strict=True):
        own = found[first : first + len(each)]
        merged.append(own[0] if len(own) == 1 else merge_tiles(own, each, *image.shape[:2]))
        first += len(each)
    return merged


def tile_corners(height: int, width: int, tile: int) -> list[tuple[int, int]]:
    """Return the first row and column of each tile of an image; a single tile for an image that is not larger."""
    return list(product(tile_starts(height, tile), tile_starts(width, tile)))


def tile_starts(length: int, tile: int) -> list[int]:
    """Return the first pixels of evenly spaced tiles that cover `length` pixels and overlap by `OVERLAP` at least.

    Example:
        >>> tile_starts(1000, 400)
        [0, 300, 600]
    """
    count = math.ceil((length / tile - OVERLAP) / (1 - OVERLAP))
    return np.linspace(0, length - tile, count).round().astype(int).tolist() if count > 1 else [0]


def merge_tiles(found: Sequence[Detections], corners: Sequence[tuple[int, int]], height: int, width: int) -> Detections:
    """Merge the detections of overlapping tiles into those of the image, best score first.

    Two detections of a class in different tiles are one instance if their masks agree in the pixels that both tiles
    have: their IoU there is at least `LEAST_SHARED`, or, where the seam cuts one of them, their intersection over the
    smaller part. The detection with the best score among those that no seam cuts represents the instance. If a seam
    cuts all of them, the union of their masks does, with the best of their scores.

    Args:
        found: detections of each tile in pixels of the tile.
        corners: (top, left) of each tile.
        height: of the image.
        width: of the image.
    """
    crops, boxes, tiles, cut = [], [], [], []
    for number, (detections, (top, left)) in enumerate(zip(found, corners, strict=True)):
        _, rows, columns = detections.instances.shape
        crops += [Crop(top + crop.top, left + crop.left, crop.pixels) for crop in detections.instances]
        boxes.append(detections.boxes + np.array([left, top, left, top], np.float32))
        tiles += [number] * len(detections)
        margin = max(rows, columns) // 64 + 1
        seams = [left > 0, top > 0, left + columns < width, top + rows < height]
        x1, y1, x2, y2 = detections.boxes.T
        near = np.stack([x1 < margin, y1 < margin, x2 > columns - margin, y2 > rows - margin])
        cut.append((near & np.array(seams)[:, None]).any(axis=0))
    scores = np.concatenate([each.scores for each in found])
    class_ids = np.concatenate([each.class_ids for each in found])
    box, is_cut, tile_of = np.concatenate(boxes), np.concatenate(cut), np.array(tiles, np.int64)
    masks = InstanceMasks(height, width, crops)
    pairs: list[tuple[int, int]] = []
    first = np.array(corners)
    last = first + [each.instances.shape[1:] for each in found]
    meet = (first[:, None] < last).all(-1)
    for one, other in np.argwhere(np.triu(meet & meet.T, 1)).tolist():
        (top, left), (bottom, right) = np.maximum(first[one], first[other]), np.minimum(last[one], last[other])
        pairs += _same(masks, class_ids, is_cut, tile_of, (one, other), (int(top), int(bottom), int(left), int(right)))
    count = len(scores)
    rows, columns = np.array(pairs, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    group = connected_components(links, directed=False)[1] if count else np.zeros(0, np.int64)
    order = np.lexsort((-scores, is_cut, group))  # in each group whole detections first, then by score
    members = np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if count else []
    merged = sorted((_merge(each, scores, box, is_cut, masks) for each in members), key=lambda each: -each[0])
    return Detections(
        boxes=np.array([each[1] for each in merged], np.float32).reshape(-1, 4),
        scores=np.array([each[0] for each in merged], np.float32),
        class_ids=np.array([class_ids[each[3]] for each in merged], np.int32),
        masks=InstanceMasks(height, width, [each[2] for each in merged]),
    )


def _same(
    masks: InstanceMasks,
    class_ids: np.ndarray,
    is_cut: np.ndarray,
    tile_of: np.ndarray,
    tiles: tuple[int, int],
    shared: tuple[int, int, int, int],
) -> list[tuple[int, int]]:
    """Return the pairs of detections of two tiles that are one instance; `shared` is top, bottom, left, right."""
    top, bottom, left, right = shared
    inside = [
        [row for row in np.flatnonzero(tile_of == tile).tolist() if _meet(masks.crop(row), top, bottom, left, right)]
        for tile in tiles
    ]
    pairs = []
    for one in inside[0]:
        crop = masks.crop(one)
        y1, x1 = max(top, crop.top), max(left, crop.left)
        y2, x2 = min(bottom, crop.top + crop.pixels.shape[0]), min(right, crop.left + crop.pixels.shape[1])
        mine = masks.region(one, y1, y2, x1, x2)
        for other in inside[1]:
            if class_ids[one] != class_ids[other] or not _meet(masks.crop(other), y1, y2, x1, x2):
                continue
            both = np.count_nonzero(mine & masks.region(other, y1, y2, x1, x2))
            sizes = np.count_nonzero(mine), np.count_nonzero(masks.region(other, top, bottom, left, right))
            of = min(sizes) if is_cut[one] or is_cut[other] else sum(sizes) - both
            if both and both >= LEAST_SHARED * of:
                pairs.append((one, other))
    return pairs


def _meet(crop: Crop, top: int, bottom: int, left: int, right: int) -> bool:
    rows, columns = crop.pixels.shape
    return crop.top < bottom and top < crop.top + rows and crop.left < right and left < crop.left + columns


def _merge(
    members: np.ndarray, scores: np.ndarray, boxes: np.ndarray, is_cut: np.ndarray, masks: InstanceMasks
) -> tuple[float, np.ndarray, Crop, int]:
    """Return score, box and mask of the instance that `members` detected, and the member that represents it."""
    first = int(members[0])
    if len(members) == 1 or not is_cut[first]:
        return float(scores[first]), boxes[first], masks.crop(first), first
    part = boxes[members]
    crops = [masks.crop(int(row)) for row in members]
    top, left = min(crop.top for crop in crops), min(crop.left for crop in crops)
    bottom = max(crop.top + crop.pixels.shape[0] for crop in crops)
    right = max(crop.left + crop.pixels.shape[1] for crop in crops)
    whole = np.logical_or.reduce([masks.region(int(row), top, bottom, left, right) for row in members])
    return float(scores[first]), np.concatenate([part[:, :2].min(0), part[:, 2:].max(0)]), Crop(top, left, whole), first
