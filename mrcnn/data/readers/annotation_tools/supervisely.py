"""Read Supervisely projects: `meta.json`, and for each data set `img/` and `ann/` with a JSON file for each image.

Objects are bitmaps, polygons with holes, and rectangles. Coordinates are those of pixels, so outlines cover the pixels
of their corners, as Supervisely draws them. A data set named after a split is that split.
"""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name, split_of
from mrcnn.data.readers.annotation_tools.outlines import (
    Encoded,
    decode_base64,
    decode_mask_png,
    encode_mask,
    flatten_points,
)
from mrcnn.data.readers.image_files import ImageFiles, files_below, load_json, parse_integer
from mrcnn.errors import InputError

_META = "meta.json"
_LARGEST_PNG = 1 << 28  # bytes


def matches(path: Path) -> bool:
    """Check for `meta.json` and a folder `ann` beside `img`."""
    project = _project(path)
    return project is not None and any(file.parent.name == "ann" for file in files_below(project, "**/ann/*.json"))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str]]:
    """Read a project, or the folder that holds it; see `annotated_images`."""
    project = _project(path)
    if project is None:
        raise InputError(f"{path}: expected {_META} with the classes of a Supervisely project")
    meta = load_json(project / _META)
    classes = meta.get("classes") if isinstance(meta, dict) else None
    if not isinstance(classes, list) or not all(isinstance(each, dict) and each.get("title") for each in classes):
        raise InputError(f"{project / _META}: classes {repr(classes)[:80]}; expected a list of objects with title")
    files_of: dict[Path, ImageFiles] = {}
    images = []
    for file in sorted(files_below(project, "**/ann/*.json")):
        files = files_of.setdefault(file.parent, ImageFiles([file.parent.parent / "img"]))
        images.append(_read_image(file, files, path, problems))
    return [image for image in images if image is not None], [str(each["title"]) for each in classes]


def _project(path: Path) -> Path | None:
    if path.is_file() or not path.is_dir():
        return path.parent if path.name == _META else None
    found = [path / _META, *sorted(files_below(path, f"*/{_META}"))]
    return next((file.parent for file in found if file.is_file()), None)


def _read_image(file: Path, files: ImageFiles, root: Path, problems: Problems) -> AnnotatedImage | None:
    root = root if root.is_dir() else root.parent
    where, name = relative_name(file, root), file.name.removesuffix(".json")
    if not Path(name).suffix or not (file.parent.parent / "img" / name).is_file():
        # The first versions of the form left the suffix of the image out.
        beside = sorted(each for each in (file.parent.parent / "img").glob("*") if each.stem == name)
        name = beside[0].name if len(beside) == 1 else name
    image = AnnotatedImage(where, name, files, split=split_of(file, root))
    try:
        content = load_json(file)
    except InputError as error:
        image.faults.append(str(error))
        return image
    size = content.get("size") if isinstance(content, dict) else None
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(size, dict) or not isinstance(objects, list):
        image.faults.append(f"{where}: expected an object with size and objects")
        return image
    image.set_size(size.get("height"), size.get("width"), f"{where}: size {size}; expected height and width")
    tags = content.get("tags")
    named = [tag for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else []
    image.patient = find_patient({str(tag.get("name")): tag.get("value") for tag in named})
    for number, entry in enumerate(objects):
        at = f"{where}, object {number}"
        if isinstance(entry, dict):
            kind = entry.get("geometryType")
            image.shapes.append(Shape(at, entry.get("classTitle"), partial(_encode, entry, kind)))
        else:
            image.faults.append(f"{at}: expected an object with classTitle and geometryType")
    return image


def _encode(entry: dict[str, Any], kind: Any, height: int, width: int) -> Encoded:
    if kind == "bitmap":
        return _bitmap(entry.get("bitmap"), height, width)
    if kind not in ("polygon", "rectangle"):
        raise ValueError(f"has geometryType {kind!r}; expected bitmap, polygon or rectangle")
    points = entry.get("points")
    if not isinstance(points, dict):
        raise ValueError("has no points with exterior and interior")
    outside = _corners(points.get("exterior"), height, width)
    inside = points.get("interior") or []
    if not isinstance(inside, list):
        raise ValueError("has an interior that is not a list of outlines")
    if kind == "rectangle":
        if len(outside) != 2:
            raise ValueError(f"is a rectangle with {len(outside)} points; expected 2")
        (x1, y1), (x2, y2) = outside
        outside = np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.int32)
    if len(outside) < 3:
        raise ValueError(f"has an outline with {len(outside)} points; expected at least 3")
    import cv2  # for this form alone

    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outside], 1)
    holes = [_corners(hole, height, width) for hole in inside]
    cv2.fillPoly(mask, [hole for hole in holes if len(hole)], 0)
    if not mask.any():
        raise ValueError(f"covers no pixel of its image of {width}×{height} pixels")
    return encode_mask(mask > 0, 0, 0, height, width)


def _corners(points: Any, height: int, width: int) -> np.ndarray:
    """Read corners (N, 2) int32, which must lie near the image."""
    corners = np.array(flatten_points(points), np.float64).reshape(-1, 2)
    limit = 2 * max(height, width)
    if len(corners) and np.abs(corners).max() > limit:
        raise ValueError(
            f"has the coordinate {np.abs(corners).max():g}, far outside its image of {width}×{height} pixels"
        )
    return np.round(corners).astype(np.int32)


def _bitmap(bitmap: Any, height: int, width: int) -> Encoded:
    origin = bitmap.get("origin") if isinstance(bitmap, dict) else None
    place = [parse_integer(value) for value in origin] if isinstance(origin, list) else []
    if len(place) != 2 or place[0] is None or place[1] is None:
        raise ValueError("has a bitmap without origin [x, y]")
    content = decode_base64(bitmap.get("data"))
    if not content.startswith(b"\x89PNG"):
        opened = zlib.decompressobj()
        try:
            content = opened.decompress(content, _LARGEST_PNG)
        except zlib.error as error:
            raise ValueError(f"has a bitmap that cannot be decompressed ({error})") from error
        if not opened.eof:
            raise ValueError("has a bitmap that is cut short or too large")
    return encode_mask(decode_mask_png(content, height, width), place[1], place[0], height, width)
