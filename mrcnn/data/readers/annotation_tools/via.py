"""Read VGG Image Annotator files: exports (VIA 1 and 2, JSON or CSV) and projects (VIA 2 and 3).

Regions are a list (VIA 2) or a dict (VIA 1). Folders per split with one file each are read as one data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.data.names import find_patient, normalize_text
from mrcnn.data.problems import Problems
from mrcnn.data.reader_options import ViaOptions
from mrcnn.data.readers.annotation_tools.annotated_images import AnnotatedImage, Encoded, Shape, build_dataset
from mrcnn.data.readers.annotation_tools.outlines import ellipse, encode_polygons, numbers
from mrcnn.data.readers.annotation_tools.via_files import find_via_files, read_entries
from mrcnn.data.readers.image_files import ImageFiles, is_valid_text
from mrcnn.errors import InputError


def matches(path: Path) -> bool:
    """Check for a VIA file at `path`, or in it or its direct subfolders."""
    return bool(find_via_files(path))


def read(path: Path, *, patient_pattern: str | None = None, options: ViaOptions) -> Dataset:
    """Read a VIA file, or the VIA file of a folder, or those of its subfolders.

    Raises:
        InputError: annotations or images are invalid; the message lists all problems.
    """
    found = find_via_files(path)
    if not found:
        raise InputError(f"{path}: expected a VIA file, or a folder with one or with one in each of its sub-folders")
    root = path if path.is_dir() else path.parent
    problems, warnings = Problems(path), []
    images, regions = [], []
    for file in found:
        files = ImageFiles([file.parent])
        for where, entry in read_entries(file, root, problems):
            attributes = entry.get("file_attributes")
            patient = find_patient(attributes) if isinstance(attributes, dict) else None
            image = AnnotatedImage(where, entry.get("filename"), files, patient=patient)
            regions += [(image, *region) for region in _regions(entry, where, image)]
            images.append(image)
    attribute = _class_attribute([attributes for *_, attributes in regions], options, problems)
    for image, where, shape, attributes in regions:
        name = options.class_name if attribute is None else _class_name(attributes.get(attribute))
        if name is None:
            image.faults.append(f"{where}: {attribute} is {attributes.get(str(attribute))!r}; expected one class")
        else:
            image.shapes.append(Shape(where, name, partial(_encode, shape)))
    names = [options.class_name] if attribute is None else None
    return build_dataset(root, images, names, problems, warnings, patient_pattern)


def _regions(entry: dict, where: str, image: AnnotatedImage) -> Iterator[tuple[str, dict, dict]]:
    """Yield the name of each region in messages, its shape, and its nonempty attributes."""
    regions = entry.get("regions") or []
    if not isinstance(regions, (dict, list)):
        image.faults.append(f"{where}: regions are {type(regions).__name__}; expected a list or an object")
        return
    for key, region in regions.items() if isinstance(regions, dict) else enumerate(regions):
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        attributes = region.get("region_attributes") or {} if isinstance(region, dict) else None
        if isinstance(shape, dict) and isinstance(attributes, dict):
            filled = {name: value for name, value in attributes.items() if value not in ("", None, {})}
            yield f"{where}, region {key}", shape, filled
        else:
            image.faults.append(f"{where}, region {key}: expected shape_attributes and region_attributes")


def _class_attribute(regions: list[dict[str, Any]], options: ViaOptions, problems: Problems) -> str | None:
    """Return the attribute that names the class; None if regions have no attributes."""
    used = list(dict.fromkeys(name for attributes in regions for name in attributes))
    if options.class_attribute is not None or not used:
        return options.class_attribute
    if len(used) > 1:
        problems.add(f"regions have the attributes {', '.join(used)}; say with class_attribute which one is the class")
    return used[0]


def _class_name(value: Any) -> str | None:
    """Return the class that the value of an attribute names; None if it names none, or several."""
    # A checkbox group is an object of ticked options.
    chosen = [name for name, ticked in value.items() if ticked] if isinstance(value, dict) else [value]
    name = normalize_text(chosen[0]) if len(chosen) == 1 and type(chosen[0]) in (str, int, float) else None
    return name if is_valid_text(name) and name not in ("nan", "inf", "-inf") else None


def _encode(shape: dict, height: int, width: int) -> Encoded:
    return encode_polygons([_corners(shape)], height, width)


def _corners(shape: dict) -> list[float]:
    """Convert a region to polygon corners x1, y1, x2, y2, … Raises `ValueError` for a shape without area."""
    kind = shape.get("name")
    if kind == "polygon":
        across, down = shape.get("all_points_x"), shape.get("all_points_y")
        if not (isinstance(across, list) and isinstance(down, list) and len(across) == len(down)):
            raise ValueError("polygon needs all_points_x and all_points_y of one length")
        return [value for point in zip(across, down, strict=True) for value in point]
    if kind == "rect":
        x, y, width, height = _numbers(shape, "x", "y", "width", "height")
        return [x, y, x + width, y, x + width, y + height, x, y + height]
    if kind == "circle":
        x, y, radius = _numbers(shape, "cx", "cy", "r")
        return ellipse(x, y, radius, radius)
    if kind == "ellipse":
        x, y, along, across = _numbers(shape, "cx", "cy", "rx", "ry")
        return ellipse(x, y, along, across, *(_numbers(shape, "theta") if shape.get("theta") else (0.0,)))
    raise ValueError(f"shape {kind!r} has no area; expected polygon, rect, circle or ellipse")


def _numbers(shape: dict, *names: str) -> list[float]:
    try:
        values = numbers([shape.get(name) for name in names])
    except ValueError as error:
        stated = ", ".join(f"{name}={shape.get(name)!r}" for name in names)
        raise ValueError(f"{shape.get('name')} has {stated}; expected finite numbers") from error
    extents = [value for name, value in zip(names, values, strict=True) if name not in ("x", "y", "cx", "cy", "theta")]
    if any(extent <= 0 for extent in extents):
        raise ValueError(f"{shape.get('name')} without an extent; expected sides above 0")
    return values
