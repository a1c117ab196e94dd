"""Read LabelMe files: a JSON file for each image, beside it or with the image inside.

Shapes are polygons, rectangles, circles and masks. Shapes with one label and one `group_id` are one instance. A picture
without a JSON file is not annotated and is left out.
"""

from __future__ import annotations

import hashlib
import io
import math
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from mrcnn.cache_folder import cache_folder
from mrcnn.data.digest import required_cache, write_whole
from mrcnn.data.io.pictures import DECODING_ERRORS, FORMATS
from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Shape, relative_name, split_of
from mrcnn.data.readers.annotation_tools.outlines import (
    Encoded,
    decode_base64,
    decode_mask_png,
    ellipse,
    encode_mask,
    encode_polygons,
    flatten_points,
    rectangle,
)
from mrcnn.data.readers.image_files import (
    IMAGE_SUFFIXES,
    ImageFiles,
    files_below,
    images_below,
    load_json,
    parse_integer,
    read_bytes,
)
from mrcnn.errors import InputError

_LOOKED_AT = 5  # JSON files that are opened to recognize the form
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "BMP": ".bmp"}


def matches(path: Path) -> bool:
    """Check for JSON files with shapes and the path of an image."""
    files = [path] if path.is_file() and path.suffix.lower() == ".json" else []
    if path.is_dir():
        files = sorted(files_below(path, "*.json"))[:_LOOKED_AT] or sorted(files_below(path, "**/*.json"))[:_LOOKED_AT]
    return any(_is_labelme(file) for file in files)


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], None]:
    """Read one file, or all files below a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    files_of: dict[Path, ImageFiles] = {}
    images, others = [], []
    for file in [path] if path.is_file() else sorted(files_below(path, "**/*.json")):
        where = relative_name(file, root)
        files = files_of.setdefault(file.parent, ImageFiles([file.parent, root]))
        try:
            content = load_json(file)
        except InputError as error:
            problems.add_skippable(str(error), _same_name(file))
            continue
        if isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content:
            images.append(_read_image(content, file, where, root, files))
        else:
            others.append(where)
    warnings += name_warnings("JSON files are not LabelMe files and are passed over", others)
    if path.is_dir():
        annotated = {Path(image.where).with_suffix("").as_posix() for image in images}
        found = {image.file for image in images if isinstance(image.file, Path)}
        names = [relative_name(file, root) for file in images_below(path) if file not in found]
        bare = [name for name in names if Path(name).with_suffix("").as_posix() not in annotated]
        warnings += name_warnings(
            "images have no JSON file and are left out; save those without objects in LabelMe, too", bare
        )
    return images, None


def _is_labelme(file: Path) -> bool:
    content = read_bytes(file)
    return b'"shapes"' in content and b'"imagePath"' in content


def _same_name(file: Path) -> Path | None:
    beside = (file.with_suffix(suffix) for suffix in IMAGE_SUFFIXES)
    return next((image for image in beside if image.is_file()), None)


def _read_image(content: dict[str, Any], file: Path, where: str, root: Path, files: ImageFiles) -> AnnotatedImage:
    image = AnnotatedImage(where, content["imagePath"], files, split=split_of(file, root))
    height, width = parse_integer(content.get("imageHeight")), parse_integer(content.get("imageWidth"))
    if height is not None and width is not None:
        image.size = height, width
    image.patient = find_patient(content)
    try:
        image.file = files.find(image.file)
    except ValueError:  # reported when it is opened, unless it is inside
        if content.get("imageData"):
            try:
                image.file = _extract(content["imageData"])
                image.name = Path(where).with_suffix(image.file.suffix).as_posix()
            except InputError:  # of the cache folder, the same for every image
                raise
            except ValueError as error:
                image.faults.append(f"{where}: imageData {error}")
    for number, entry in enumerate(content["shapes"]):
        at = f"{where}, shape {number}"
        if not isinstance(entry, dict):
            image.faults.append(f"{at}: expected an object with label, points and shape_type")
            continue
        group = entry.get("group_id")
        image.shapes.append(
            Shape(at, entry.get("label"), partial(_encode, entry), group=str(group) if group is not None else None)
        )
    return image


def _extract(data: Any) -> Path:
    """Write the image inside a file to the cache, and return its path. Raises `ValueError` if it is no image."""
    content = decode_base64(data)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            suffix = _SUFFIXES.get(image.format or "", ".png")
    except DECODING_ERRORS as error:
        raise ValueError("is not a readable image") from error
    path = cache_folder() / "labelme" / f"{hashlib.sha256(content).hexdigest()}{suffix}"
    if not path.is_file():
        with required_cache(path.parent), write_whole(path) as draft:
            draft.write_bytes(content)
    return path


def _encode(entry: dict[str, Any], height: int, width: int) -> Encoded:
    kind, points = entry.get("shape_type") or "polygon", flatten_points(entry.get("points"))
    if kind in ("polygon", "oriented_rectangle") or (kind == "rectangle" and len(points) == 8):
        return encode_polygons([points], height, width)
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"has shape_type {kind!r} without an area; expected polygon, rectangle, circle or mask")
    if len(points) != 4:
        raise ValueError(f"is a {kind} with {len(points) // 2} points; expected 2")
    x1, y1, x2, y2 = points
    if kind == "rectangle":
        return encode_polygons([rectangle(x1, y1, x2, y2)], height, width)
    if kind == "circle":
        radius = math.hypot(x2 - x1, y2 - y1)
        return encode_polygons([ellipse(x1, y1, radius, radius)], height, width)
    mask = decode_mask_png(decode_base64(entry.get("mask")), height, width)
    # Corners of a mask are its first and last pixel.
    if mask.shape != (int(y2) - int(y1) + 1, int(x2) - int(x1) + 1):
        raise ValueError(
            f"has a mask of {mask.shape[1]}×{mask.shape[0]} pixels; expected "
            f"{int(x2) - int(x1) + 1}×{int(y2) - int(y1) + 1} as its points say"
        )
    return encode_mask(mask, int(y1), int(x1), height, width)
