"""Crop tiles from large images for training, so that small instances are seen at full resolution."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from mrcnn.data.dataset import Record
from mrcnn.data.sample import Sample

FORCED_SHARE = 0.5
"""Share of the tiles that are placed on an instance, as in nnDetection (Baumgartner et al. 2021); the others are placed
uniformly. In nnU-Net it is a third."""
LEAST_VISIBLE = 0.25
"""Least share of an instance's area, or of the tile if that is smaller, that a tile must show to teach the instance."""


def tile_count(height: int, width: int, tile: int) -> int:
    """Return the number of tiles without overlap that cover an image.

    Example:
        >>> tile_count(1000, 300, tile=400)
        3
    """
    return math.ceil(height / tile) * math.ceil(width / tile)


def random_corner(record: Record, tile: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw the first row and column of a tile of an image.

    A share of `FORCED_SHARE` of the tiles contains a random instance of a random class. If the instance is
    larger than the tile, the tile lies within its box.
    """
    limits = (max(record.height - tile, 0), max(record.width - tile, 0))
    ranges = [(0, limit) for limit in limits]
    if len(record.class_ids) and rng.random() < FORCED_SHARE:
        of_class = np.flatnonzero(record.class_ids == rng.choice(np.unique(record.class_ids)))
        x1, y1, x2, y2 = record.boxes[rng.choice(of_class)].astype(int).tolist()
        for axis, (low, high) in enumerate(((y1, y2), (x1, x2))):
            first, last = sorted((high - tile, low))
            ranges[axis] = (min(max(first, 0), limits[axis]), min(max(last, 0), limits[axis]))
    (top, bottom), (left, right) = ranges
    return int(rng.integers(top, bottom + 1)), int(rng.integers(left, right + 1))


def crop_sample(sample: Sample, boxes: np.ndarray, corner: tuple[int, int], tile: int) -> Sample:
    """Cut a tile out of a sample; the masks of other instances are not decoded.

    An instance is kept if the tile shows at least `LEAST_VISIBLE` of it. The visible part of any other becomes a crowd
    region: it is neither object nor background.

    Args:
        sample: the whole image.
        boxes: (N, 4) boxes of its instances in pixels.
        corner: first row and column of the tile.
        tile: side of the tile in pixels; it ends at the border of the image.
    """
    (top, left), (height, width) = corner, sample.image.shape[:2]
    bottom, right = min(top + tile, height), min(left + tile, width)
    x1, y1, x2, y2 = np.asarray(boxes).T
    near = np.flatnonzero((x1 < right) & (left < x2) & (y1 < bottom) & (top < y2))
    whole = sample.instances.select(near)
    shown = whole.window(top, bottom, left, right)
    areas, visible = whole.areas, shown.areas
    kept = visible >= np.maximum(LEAST_VISIBLE * np.minimum(areas, (bottom - top) * (right - left)), 1)
    rest = ~kept & (visible > 0)
    crowds, crowd_ids = shown.select(rest), sample.class_ids[near][rest]
    if sample.crowds is not None and sample.crowd_ids is not None:
        crowds = sample.crowds.window(top, bottom, left, right) + crowds
        crowd_ids = np.concatenate([sample.crowd_ids, crowd_ids])
    return replace(
        sample,
        image=np.ascontiguousarray(sample.image[top:bottom, left:right]),
        masks=shown.select(kept),
        class_ids=sample.class_ids[near][kept],
        crowd_masks=crowds,
        crowd_ids=crowd_ids,
    )


def most_in_a_tile(record: Record, tile: int) -> int:
    """Return a bound of the number of instances whose centers lie in one tile of an image.

    Centers are counted in cells of a quarter of the tile; five times five of these cells contain any tile.
    """
    if not len(record.class_ids):
        return 0
    cells = ((record.boxes[:, :2] + record.boxes[:, 2:]) / 2 // (tile / 4)).astype(int)
    counts = np.zeros(np.maximum(cells.max(axis=0) + 1, 5), int)
    np.add.at(counts, tuple(cells.T), 1)
    windows = np.lib.stride_tricks.sliding_window_view(counts, (5, 5))
    return int(windows.sum(axis=(2, 3)).max())
