"""Instances from class maps: the connected pieces of what a network holds for a class, on the host."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mrcnn.data.transforms.encoding import Letterbox
from mrcnn.data.transforms.resizing import resize
from mrcnn.detections import Detections
from mrcnn.instance_masks import Crop, InstanceMasks

_TOUCHING = np.ones((3, 3), bool)  # corners too


def instances_from_class_maps(maps: np.ndarray, letterbox: Letterbox, *, exclusive: bool, limit: int) -> Detections:
    """The connected pieces of each class in the pixels of the image that `letterbox` came from.

    A pixel is of a class at a probability of at least 0.5, or, where one class at most is true (`exclusive`, the first
    map is the background), where that class is the likeliest. A piece's score is the mean of its probabilities, and of
    more pieces than `limit` the largest stay.

    Args:
        maps: (S, S, M) probabilities of the network's input.
    """
    height, width = letterbox.height, letterbox.width
    full = resize(np.asarray(maps, np.float32), height, width, 1 / letterbox.scale)
    classes = full.shape[2] - exclusive
    if exclusive:
        likeliest = full.argmax(axis=2)
        regions = [likeliest == class_id for class_id in range(1, classes + 1)]
    else:
        regions = [full[..., position] >= 0.5 for position in range(classes)]
    pieces = []  # area, score, class id, mask
    for class_id, region in enumerate(regions, start=1):
        numbers, count = ndimage.label(region, _TOUCHING)
        if not count:
            continue
        areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
        sums = np.bincount(numbers.ravel(), full[..., class_id - 1 + exclusive].ravel(), minlength=count + 1)[1:]
        places = ndimage.find_objects(numbers)
        for piece in np.argsort(-areas, kind="stable")[:limit]:
            rows, columns = places[piece]
            crop = Crop(rows.start, columns.start, numbers[rows, columns] == piece + 1)
            pieces.append((areas[piece], sums[piece] / areas[piece], class_id, crop))
    pieces = sorted(pieces, key=lambda each: -each[0])[:limit]
    pieces.sort(key=lambda each: -each[1])
    if not pieces:
        return Detections.none(height, width)
    masks = InstanceMasks(height, width, [mask for *_, mask in pieces])
    return Detections(
        boxes=masks.boxes.astype(np.float32),
        scores=np.array([score for _, score, _, _ in pieces], np.float32).clip(0, 1),
        class_ids=np.array([class_id for _, _, class_id, _ in pieces], np.int32),
        masks=masks,
    )
