"""Trace masks as polygons that pycocotools fills with exactly their pixels."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects, label
from skimage.measure import approximate_polygon, find_contours

from mrcnn.data.readers.segmentation import encode_segmentation
from mrcnn.instance_masks import Crop, encode_crop

_TOLERANCE = 0.25  # pixels; below the distance of pixel centers from the traced border, 0.35
_STEP = 5  # pycocotools rounds coordinates to a fifth of a pixel


def trace_pieces(crop: Crop, height: int, width: int) -> list[list[float]] | None:
    """Trace each piece of a mask as a polygon [x1, y1, x2, y2, …] of few corners; None if a piece has a hole.

    Pieces are 4-connected, so that no polygon touches itself.
    """
    pieces, count = label(crop.pixels)  # pyright: ignore[reportGeneralTypeIssues] - SciPy has no annotations
    polygons = []
    for number, place in enumerate(find_objects(pieces, count), start=1):
        pixels = pieces[place] == number
        piece = Crop(crop.top + place[0].start, crop.left + place[1].start, pixels)
        rings = _rings(pixels)
        if len(rings) > 1:
            return None
        corner = np.array([piece.left, piece.top])
        # pycocotools rounds coordinates; halves would depend on the last digit.
        smooth = (np.rint((_smooth(pixels) + corner) * _STEP) / _STEP).ravel().tolist()
        exact = encode_crop(piece, height, width)
        fits = len(smooth) >= 6 and _encode(smooth, height, width) == exact
        polygons.append(smooth if fits else (rings[0] + corner).astype(float).ravel().tolist())
    return polygons


def trace_joined(crop: Crop, height: int, width: int) -> tuple[list[float], bool]:
    """Trace a mask as one polygon, and return whether it has holes or several pieces.

    Their outlines are joined by lines there and back, which cover no pixel.
    """
    pieces = trace_pieces(crop, height, width)
    if pieces is not None and len(pieces) == 1:
        return pieces[0], False
    return (_join(_rings(crop.pixels)) + np.array([crop.left, crop.top])).astype(float).ravel().tolist(), True


def trace_contours(crop: Crop) -> list[np.ndarray]:
    """Trace each 4-connected piece as a closed contour (P, 2) of (x, y) around the centers of exactly its pixels.

    Coordinates are pixels from the corner of the image. A hole is joined to the outer contour by a line there and back
    (keyhole).
    """
    pieces, count = label(crop.pixels)  # pyright: ignore[reportGeneralTypeIssues] - SciPy has no annotations
    contours = []
    for number, place in enumerate(find_objects(pieces, count), start=1):
        pixels = pieces[place] == number
        rings = _rings(pixels)
        contour = _join(rings) if len(rings) > 1 else _smooth(pixels)
        contours.append(contour + np.array([crop.left + place[1].start, crop.top + place[0].start]))
    return contours


def _join(rings: list[np.ndarray]) -> np.ndarray:
    """Join outlines to one by lines along the edges of pixels, there and back."""
    first, *others = [ring.tolist() for ring in rings]
    path = [*first, first[0]]
    for ring in others:
        bend = [ring[0][0], first[0][1]]
        path += [bend, *ring, ring[0], bend, first[0]]
    return np.array(path)


def _smooth(piece: np.ndarray) -> np.ndarray:
    """Trace a piece without holes along the middle between its pixels and others, with few corners (P, 2)."""
    border = find_contours(np.pad(piece, 1).astype(np.float32), 0.5, fully_connected="low")[0]
    # find_contours uses pixel centers, polygons pixel corners: add half a pixel, subtract one of padding.
    return approximate_polygon(border, _TOLERANCE)[:-1, ::-1] - 0.5


def _encode(polygon: list[float], height: int, width: int) -> bytes | None:
    try:
        return encode_segmentation([polygon], height, width)
    except ValueError:
        return None


def _rings(mask: np.ndarray) -> list[np.ndarray]:
    """Follow the edges between pixels of a mask (h, w) and others; corners (P, 2) of (x, y) of each closed outline.

    The mask lies to the right of each edge. Where two pixels touch at a corner, the outline stays with one pixel.
    """
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for neighbor, start, step in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: the edge runs to the right
        (padded[1:-1, 2:], (1, 0), (0, 1)),
        (padded[2:, 1:-1], (1, 1), (-1, 0)),
        (padded[1:-1, :-2], (0, 1), (0, -1)),
    ):
        for y, x in np.argwhere(inside & ~neighbor).tolist():
            ahead.setdefault((x + start[0], y + start[1]), []).append(step)
    rings = []
    while ahead:
        first = point = min(ahead)  # a corner that its outline visits once
        step, corners = (0, 0), []
        while not corners or point != first:
            steps = ahead[point]
            right = (-step[1], step[0])
            chosen = right if right in steps else steps[0]
            if chosen != step:
                corners.append(point)
            steps.remove(chosen)
            if not steps:
                del ahead[point]
            step, point = chosen, (point[0] + chosen[0], point[1] + chosen[1])
        rings.append(np.array(corners))
    return rings
