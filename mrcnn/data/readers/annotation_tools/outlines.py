"""Convert the outlines of annotation tools to run-length strings: polygons, ellipses, and masks within a box.

Coordinates are pixels from the corner of the image, x to the right and y down, so the center of the first pixel is
(0.5, 0.5). Functions raise `ValueError` for an invalid outline; the message continues a sentence about the annotation.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mrcnn.data.io.pictures import DECODING_ERRORS
from mrcnn.data.readers.annotation_tools.annotated_images import Encoded
from mrcnn.data.readers.image_files import parse_integer, parse_number
from mrcnn.data.readers.segmentation import encode_segmentation, polygon_warnings
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop, encode_crop

_FEWEST_CORNERS = 16
_LARGEST = 1e15


def encode_polygons(polygons: Sequence[Any], height: int, width: int) -> Encoded:
    """Encode the union of polygons [x1, y1, x2, y2, …] as pycocotools does."""
    polygons = list(polygons)
    return encode_segmentation(polygons, height, width), polygon_warnings(polygons, height, width)


def flatten_points(points: Any, scale: tuple[float, float] = (1.0, 1.0)) -> list[float]:
    """Convert points [[x, y], …] to [x1, y1, …], multiplied by `scale` (x, y)."""
    pairs = points if isinstance(points, list) else None
    if pairs is None or not all(isinstance(point, list) and len(point) == 2 for point in pairs):
        raise ValueError("has points that are not a list of [x, y]")
    flat = numbers([value for point in pairs for value in point])
    return [value * scale[index % 2] for index, value in enumerate(flat)]


def numbers(values: Sequence[Any]) -> list[float]:
    """Parse finite numbers, also written as text."""
    parsed = [parse_number(value) for value in values]
    for value, number in zip(values, parsed, strict=True):
        if number is None or abs(number) >= _LARGEST:
            raise ValueError(f"has the coordinate {str(value)[:40]!r}; expected a finite number")
    return [float(number) for number in parsed if number is not None]


def rectangle(
    x1: float, y1: float, x2: float, y2: float, degrees: float = 0.0, pivot: Sequence[float] = ()
) -> list[float]:
    """Return the corners of a rectangle, turned clockwise on the screen around `pivot`, by default its center."""
    if x1 == x2 or y1 == y2:
        raise ValueError(f"has a box without an extent, from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})")
    if not degrees:
        return [x1, y1, x2, y1, x2, y2, x1, y2]
    x, y = pivot or ((x1 + x2) / 2, (y1 + y2) / 2)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = []
    for across, down in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        along, beside = across - x, down - y
        corners += [x + along * cosine - beside * sine, y + along * sine + beside * cosine]
    return corners


def ellipse(x: float, y: float, along: float, across: float, tilt: float = 0.0) -> list[float]:
    """Approximate an ellipse, rotated by `tilt` radians, by a polygon with one corner per pixel of circumference.

    The deviation from the ellipse is at most 1 / (8 · radius) pixels.
    """
    if along <= 0 or across <= 0:
        raise ValueError(f"has the radii {along:g} and {across:g}; expected numbers above 0")
    count = max(_FEWEST_CORNERS, math.ceil(min(2 * math.pi * max(along, across), 10_000)))
    cosine, sine = math.cos(tilt), math.sin(tilt)
    corners = []
    for index in range(count):
        u = along * math.cos(2 * math.pi * index / count)
        v = across * math.sin(2 * math.pi * index / count)
        corners += [x + u * cosine - v * sine, y + u * sine + v * cosine]
    return corners


def encode_box(box: Sequence[float], height: int, width: int) -> Encoded:
    """Encode a box (x1, y1, x2, y2) as the rectangle that it covers."""
    x1, y1, x2, y2 = box
    return encode_polygons([rectangle(x1, y1, x2, y2)], height, width)


def encode_mask(mask: np.ndarray, top: int, left: int, height: int, width: int) -> Encoded:
    """Encode a mask (h, w) bool whose first pixel lies at row `top` and column `left` of the image."""
    rows, columns = mask.shape
    if top < 0 or left < 0 or top + rows > height or left + columns > width:
        raise ValueError(
            f"has a mask of {columns}×{rows} pixels at ({left}, {top}), outside its image of {width}×{height}"
        )
    return encode_crop(Crop(top, left, np.asarray(mask, bool)), height, width), ()


def decode_runs(counts: Any, height: int, width: int) -> np.ndarray:
    """Decode run lengths that go along rows, background first, to a mask (height, width) bool."""
    parsed = [parse_integer(count) for count in counts] if isinstance(counts, list) else []
    lengths = [count for count in parsed if count is not None and 0 <= count <= height * width]
    if len(lengths) < len(parsed) or sum(lengths) != height * width:
        raise ValueError(f"has run lengths that are not {height * width} pixels ({width}×{height})")
    return np.repeat(np.arange(len(lengths)) % 2, lengths).astype(bool).reshape(height, width)


def decode_base64(text: Any) -> bytes:
    """Decode base64 text."""
    try:
        return base64.b64decode(text if isinstance(text, str) else "", validate=False)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"has data that are not base64 ({error})") from error


def decode_mask_png(content: bytes, height: int, width: int) -> np.ndarray:
    """Decode a PNG of at most (height, width) pixels to a mask (h, w) bool: the alpha channel, or what is not 0."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.height > height or image.width > width:
                raise ValueError(
                    f"has a mask of {image.width}×{image.height} pixels, larger than its image of {width}×{height}"
                )
            values = np.array(image.convert("RGBA") if "transparency" in image.info else image)
    except (*DECODING_ERRORS, InputError) as error:
        if isinstance(error, ValueError) and str(error).startswith("has a mask"):
            raise
        raise ValueError("has a mask that is not a readable PNG") from error
    if values.ndim == 3:
        values = values[..., -1] if values.shape[2] in (2, 4) else values.max(axis=2)
    return np.asarray(values > 0)
