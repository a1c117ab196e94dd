"""Validate COCO segmentations, and convert polygons, run lengths and regions to run-length strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects, label

from mrcnn.data.readers.image_files import parse_integer, parse_number
from mrcnn.instance_masks import Crop, encode_crop, run_lengths

CROSSING = "cross or touch themselves; pycocotools fills them by turns, inside and outside"
BEYOND = "reach beyond their image and are clipped"

_OVERSHOOT = 1  # pixels; annotation tools that round may exceed the border
_LARGEST = 1e15
_LONGEST_OUTLINE = 4_000_000  # pixels
_LONGEST_RUN = 1 << 40
_MEASURED_AT_ONCE = 255  # pycocotools 2.0.11 fails to return more areas than this in one call under NumPy 2


def encode_segmentation(segmentation: Any, height: int, width: int) -> bytes:
    """Encode a COCO segmentation as compressed run-length string of pycocotools on a height × width grid.

    Args:
        segmentation: list of polygons [x1, y1, x2, y2, …] in pixels whose union is the instance, or a dict with `size`
            [height, width] and `counts`, compressed (str) or not (list of int).
        height: height of the image in pixels.
        width: width of the image in pixels.

    Raises:
        ValueError: the segmentation is invalid; the message continues a sentence that begins with its name.
    """
    if isinstance(segmentation, dict):
        return _encode_runs(segmentation, height, width)
    if isinstance(segmentation, list) and segmentation:
        return _encode_polygons(segmentation, height, width)
    raise ValueError("is missing or empty; expected polygons or run lengths")


def boxes_and_areas(runs: list[bytes], sizes: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Compute tight boxes (N, 4) float32 (x1, y1, x2, y2), x2 and y2 exclusive, and areas (N,) int64 in pixels.

    The masks are N run-length strings with the (height, width) of their images.
    """
    masks = [{"size": size, "counts": counts} for counts, size in zip(runs, sizes, strict=True)]
    boxes, areas = np.zeros((len(masks), 4), np.float32), np.zeros(len(masks), np.int64)
    for start in range(0, len(masks), _MEASURED_AT_ONCE):
        part = masks[start : start + _MEASURED_AT_ONCE]
        # The annotations of pycocotools are those of a single mask.
        boxes[start : start + len(part)] = coco_mask.toBbox(part)  # pyright: ignore[reportArgumentType]
        areas[start : start + len(part)] = coco_mask.area(part)  # pyright: ignore[reportArgumentType]
    boxes[:, 2:] += boxes[:, :2]
    return boxes, areas


def polygon_warnings(segmentation: Any, height: int, width: int) -> list[str]:
    """Return warnings about a valid segmentation: `CROSSING`, `BEYOND`, both or none."""
    if isinstance(segmentation, dict):
        return []
    found = []
    corners = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
    import shapely  # a served model does without it

    if not all(shapely.is_simple(shapely.LinearRing(ring)) for ring in corners):
        found.append(CROSSING)
    points = np.concatenate(corners)
    if points.min() < -_OVERSHOOT or (points > np.array([width, height]) + _OVERSHOOT).any():
        found.append(BEYOND)
    return found


def _encode_polygons(polygons: list, height: int, width: int) -> bytes:
    # Coordinates this far outside are invalid, and rasterizing them would take unlimited memory.
    limit = 2 * max(height, width)
    outlines = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            raise ValueError("has a polygon that is not a list of x, y pairs")
        if len(polygon) < 6:
            raise ValueError(f"has a polygon with {len(polygon) // 2} points; expected at least 3")
        numbers = [parse_number(value) for value in polygon]
        if any(value is None or not -_LARGEST < value < _LARGEST for value in numbers):
            raise ValueError("has a polygon with a coordinate that is not a finite number")
        coordinates = np.array(numbers, np.float64)
        if np.abs(coordinates).max() > limit:
            raise ValueError(
                f"has a polygon with the coordinate {coordinates[np.abs(coordinates).argmax()]:g}, "
                f"far outside its image of {width}×{height} pixels"
            )
        points = coordinates.reshape(-1, 2)
        if (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= [width, height]).any():
            raise ValueError(f"has a polygon that lies outside its image of {width}×{height} pixels")
        # pycocotools samples five points per pixel.
        around = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
        if around > _LONGEST_OUTLINE:
            raise ValueError(f"has a polygon {around:,.0f} pixels long; expected an outline")
        outlines.append(coordinates.tolist())
    parts = coco_mask.frPyObjects(outlines, height, width)
    encoded = parts[0] if len(parts) == 1 else coco_mask.merge(parts)
    return encoded["counts"]  # pyright: ignore[reportReturnType] - pycocotools encodes to bytes


def _encode_runs(segmentation: dict, height: int, width: int) -> bytes:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or [parse_integer(side) for side in size] != [height, width]:
        raise ValueError(f"has size {size}; expected [{height}, {width}] as its image")
    if isinstance(counts, str):
        compressed = counts.encode("utf-8")
        lengths = run_lengths(compressed)
    elif isinstance(counts, list):
        whole = [count for each in counts if (count := parse_integer(each)) is not None]
        if len(whole) < len(counts):
            raise ValueError("has no counts; expected a string or a list of whole numbers")
        # Clipped, because JSON integers are unbounded.
        compressed = None
        lengths = np.array([max(-_LONGEST_RUN, min(count, _LONGEST_RUN)) for count in whole], np.int64)
    else:
        raise ValueError("has no counts; expected a string or a list of whole numbers")
    most = height * width
    # The sum alone may overflow to the correct value.
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > most or lengths.sum() != most:
        stated = lengths[lengths > 0].sum(dtype=np.float64)
        raise ValueError(f"has run lengths for {stated:.0f} pixels; expected {most} ({height}×{width})")
    if (lengths[1:] == 0).any():
        # An empty run after the first is legal but would enlarge the box that pycocotools computes.
        inside = np.repeat(np.arange(len(lengths)) % 2, lengths).astype(bool)
        return encode_crop(Crop(0, 0, inside.reshape((height, width), order="F")), height, width)
    if compressed is None:
        encoded = coco_mask.frPyObjects({"size": [height, width], "counts": lengths.tolist()}, height, width)
        return encoded["counts"]  # pyright: ignore[reportReturnType] - pycocotools encodes to bytes
    return compressed


def split_components(region: np.ndarray) -> tuple[int, Iterator[Crop]]:
    """Return the number of 8-connected components of a region (H, W) bool, and the components."""
    labels, count = label(region, np.ones((3, 3), bool))  # pyright: ignore[reportGeneralTypeIssues] - no annotations
    places = enumerate(find_objects(labels, count), start=1)
    return count, (Crop(rows.start, columns.start, labels[rows, columns] == k) for k, (rows, columns) in places)


def connected_components(
    regions: Sequence[np.ndarray], min_area: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes], int]:
    """Split the region (H, W) bool of each class into connected components of at least `min_area` pixels.

    Returns:
        class_ids (N,) int32, boxes (N, 4) float32 (x1, y1, x2, y2), x2 and y2 exclusive, areas (N,) int64, N run-length
        strings, and the number of pixels in components that are too small.
    """
    class_ids, boxes, areas, runs, lost = [], [], [], [], 0
    for class_id, region in enumerate(regions, start=1):
        for crop in split_components(region)[1] if region.any() else ():
            area = int(np.count_nonzero(crop.pixels))
            if area < min_area:
                lost += area
                continue
            rows, columns = crop.slices
            class_ids.append(class_id)
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            areas.append(area)
            runs.append(encode_crop(crop, *region.shape))
    return (
        np.array(class_ids, np.int32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(areas, np.int64),
        runs,
        lost,
    )


def whole_regions(
    regions: Sequence[np.ndarray], class_ids: Sequence[int], min_area: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes], int]:
    """Return each region (H, W) bool of at least `min_area` pixels as one instance, as `connected_components` does."""
    areas = [int(np.count_nonzero(region)) for region in regions]
    kept = [index for index, area in enumerate(areas) if area >= min_area]
    runs = [encode_crop(Crop(0, 0, regions[index]), *regions[index].shape) for index in kept]
    boxes, sizes = boxes_and_areas(runs, [regions[index].shape for index in kept])
    lost = sum(area for area in areas if area < min_area)
    return np.array([class_ids[index] for index in kept], np.int32), boxes, sizes, runs, lost
