"""Read VGG Image Annotator files: exported annotations (VIA 1 and 2, JSON) and VIA 2 projects.

Regions are a list (VIA 2) or a dict (VIA 1). Folders per split with one JSON each are read as one data set, because
such splits usually ignore patients.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.pictures import UPRIGHT
from mrcnn.data.names import find_patient, normalize_text
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.readers.image_files import (
    ImageFiles,
    files_below,
    is_valid_text,
    load_json,
    parse_number,
    read_bytes,
    read_record_fields,
)
from mrcnn.data.readers.options import ViaOptions
from mrcnn.data.readers.orientation import REMEDY, find_annotated_as_stored
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.data.readers.segmentation import BEYOND, encode_segmentation, polygon_warnings
from mrcnn.errors import InputError

_USUAL_NAME = "via_region_data.json"
_FEWEST_CORNERS = 16
_LARGEST = 1e15


def matches(path: Path) -> bool:
    """Check for a VIA JSON at `path`, or in it or its direct subfolders."""
    return bool(_find_files(path))


def read(path: Path, *, patient_pattern: str | None = None, options: ViaOptions) -> Dataset:
    """Read a VIA file, or the VIA file of a folder, or those of its subfolders.

    Raises:
        InputError: annotations or images are invalid; the message lists all problems.
    """
    files = _find_files(path)
    if not files:
        raise InputError(f"{path}: expected a VIA JSON, or a folder with one or with one in each of its sub-folders")
    root = path if path.is_dir() else path.parent
    problems, warnings = Problems(path), []
    rows, stated, regions = [], [], []
    for file in files:
        images = ImageFiles([file.parent])
        for where, entry in _entries(file, root, problems):
            row = _read_image(entry, images, where, root, problems)
            image = row["path"] if row else None
            # Regions of an image that cannot be read are validated as well, without an image index.
            regions += [(len(rows) if row else None, *region) for region in _regions(entry, where, problems, image)]
            rows += [row] if row else []
            attributes = entry.get("file_attributes")
            stated += [find_patient(attributes) if isinstance(attributes, dict) else None] if row else []
        warnings += images.warnings()
    for found, count in Counter(row["path"] for row in rows).items():
        if count > 1:
            problems.add_skippable(f"{found.relative_to(root)} stands in {count} entries; expected one", found)
    find_annotated_as_stored(rows, {}, problems, warnings)
    paths = [row["path"] for row in rows]
    named = [(where, attributes, None if owner is None else paths[owner]) for owner, where, _, attributes in regions]
    class_names, class_ids = _classes(named, options, problems)
    owners, kept, runs, wheres = [], [], [], []
    doubtful: dict[str, list[str]] = {}
    for (owner, where, shape, _), class_id in zip(regions, class_ids, strict=True):
        try:
            corners = _corners(shape)
            if owner is None or class_id is None:
                continue
            size = rows[owner]["height"], rows[owner]["width"]
            run, doubted = encode_segmentation([corners], *size), polygon_warnings([corners], *size)
            if BEYOND in doubted and rows[owner]["orientation"] != UPRIGHT:
                raise ValueError(f"reaches beyond its picture as the EXIF orientation turns it; {REMEDY}")
        except ValueError as error:
            problems.add_skippable(f"{where}: {error}", None if owner is None else paths[owner])
            continue
        for doubt in doubted:
            doubtful.setdefault(doubt, []).append(where)
        runs.append(run)
        wheres.append(where)
        owners.append(owner)
        kept.append(class_id)
    in_files, names = ([row[key] for row in rows] for key in ("patient_id", "file_name"))
    patients, found = name_patients(stated, names, patient_pattern, problems, in_files=in_files)
    if not rows:
        problems.add("no image; expected at least one")
    problems.raise_if_fatal()
    warnings += [summarize_names(f"annotations {doubt}", names) for doubt, names in doubtful.items()]
    rows = [add_patient(row, patient) for row, patient in zip(rows, patients, strict=True)]
    return assemble_dataset(class_names, rows, owners, kept, runs, wheres, [*warnings, *found], problems)


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if _is_via(path) else []
    own = [file for file in sorted(files_below(path, "*.json")) if _is_via(file)]
    if own:
        return [_choose(own)]
    folders: dict[Path, list[Path]] = {}
    for file in sorted(files_below(path, "*/*.json")):
        if _is_via(file):
            folders.setdefault(file.parent, []).append(file)
    return [_choose(found) for found in folders.values()]


def _choose(files: list[Path]) -> Path:
    """Choose the file to read in a folder, which may contain a project and its export."""
    usual = [file for file in files if file.name == _USUAL_NAME]
    if len(files) > 1 and not usual:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{files[0].parent}: expected one VIA file or {_USUAL_NAME}; found {names}")
    return (usual or files)[0]


def _is_via(file: Path) -> bool:
    if file.suffix.lower() != ".json":
        return False
    content = read_bytes(file)
    return b'"_via_img_metadata"' in content or (b'"filename"' in content and b'"regions"' in content)


def _entries(file: Path, root: Path, problems: Problems) -> Iterator[tuple[str, dict]]:
    """Yield the entry of each image and its name in messages."""
    content = load_json(file)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, (dict, list)):
        raise InputError(f"{file}: expected an object with an entry for each image")
    name = file.relative_to(root)
    for key, entry in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(entry, dict):
            yield f"{name}: {entry.get('filename', key)}", entry
        else:
            problems.add_skippable(f"{name}: {key}: expected an object with filename and regions")


def _read_image(entry: dict, images: ImageFiles, where: str, root: Path, problems: Problems) -> dict[str, Any] | None:
    try:
        path = images.find(entry.get("filename"))
    except ValueError as error:
        problems.add_skippable(f"{where}: {error}")
        return None
    return read_record_fields(path.relative_to(root).as_posix(), path, where, problems)


def _regions(entry: dict, where: str, problems: Problems, image: Path | None) -> Iterator[tuple[str, dict, dict]]:
    """Yield the name of each region in messages, its shape, and its nonempty attributes."""
    regions = entry.get("regions") or []
    if not isinstance(regions, (dict, list)):
        problems.add_skippable(f"{where}: regions are {type(regions).__name__}; expected a list or an object", image)
        return
    for key, region in regions.items() if isinstance(regions, dict) else enumerate(regions):
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        attributes = region.get("region_attributes") or {} if isinstance(region, dict) else None
        if isinstance(shape, dict) and isinstance(attributes, dict):
            filled = {name: value for name, value in attributes.items() if value not in ("", None, {})}
            yield f"{where}, region {key}", shape, filled
        else:
            problem = f"{where}, region {key}: expected shape_attributes and region_attributes"
            problems.add_skippable(problem, image)


def _classes(
    regions: list[tuple[str, dict, Path | None]], options: ViaOptions, problems: Problems
) -> tuple[list[str], list[int | None]]:
    """Determine the sorted class names, and the 1-based class id of each region, or None."""
    used = list(dict.fromkeys(name for _, attributes, _ in regions for name in attributes))
    attribute = options.class_attribute
    if attribute is None and not used:
        return [options.class_name], [1] * len(regions)
    if attribute is None and len(used) > 1:
        problems.add(f"regions have the attributes {', '.join(used)}; say with class_attribute which one is the class")
        return [], [None] * len(regions)
    attribute = attribute or used[0]
    names = []
    for where, attributes, image in regions:
        value = attributes.get(attribute)
        # A checkbox group is an object of ticked options.
        chosen = [name for name, ticked in value.items() if ticked] if isinstance(value, dict) else [value]
        name = normalize_text(chosen[0]) if len(chosen) == 1 and type(chosen[0]) in (str, int, float) else None
        if not is_valid_text(name) or name in ("nan", "inf", "-inf"):
            problems.add_skippable(f"{where}: {attribute} is {value!r}; expected one class", image)
            name = None
        names.append(name)
    # Names that differ only in compatibility characters, such as full-width letters, are one class.
    shown = {unicodedata.normalize("NFKC", name): name for name in sorted(set(names) - {None}, reverse=True)}
    names = [name and shown[unicodedata.normalize("NFKC", name)] for name in names]
    class_names = sorted(shown.values())
    return class_names, [class_names.index(name) + 1 if name else None for name in names]


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
        return _ellipse(x, y, radius, radius, 0.0)
    if kind == "ellipse":
        x, y, along, across = _numbers(shape, "cx", "cy", "rx", "ry")
        return _ellipse(x, y, along, across, *(_numbers(shape, "theta") if shape.get("theta") else (0.0,)))
    raise ValueError(f"shape {kind!r} has no area; expected polygon, rect, circle or ellipse")


def _ellipse(x: float, y: float, along: float, across: float, tilt: float) -> list[float]:
    """Approximate an ellipse, rotated by `tilt` radians, by a polygon with one corner per pixel of circumference.

    The deviation from the ellipse is at most 1 / (8 · radius) pixels.
    """
    count = max(_FEWEST_CORNERS, math.ceil(min(2 * math.pi * max(along, across), 10_000)))
    cosine, sine = math.cos(tilt), math.sin(tilt)
    corners = []
    for index in range(count):
        u = along * math.cos(2 * math.pi * index / count)
        v = across * math.sin(2 * math.pi * index / count)
        corners += [x + u * cosine - v * sine, y + u * sine + v * cosine]
    return corners


def _numbers(shape: dict, *names: str) -> list[float]:
    values = [parse_number(shape.get(name)) for name in names]
    if not all(value is not None and abs(value) < _LARGEST for value in values):
        stated = ", ".join(f"{name}={shape.get(name)!r}" for name in names)
        raise ValueError(f"{shape.get('name')} has {stated}; expected finite numbers")
    extents = [value for name, value in zip(names, values, strict=True) if name not in ("x", "y", "cx", "cy", "theta")]
    if any(extent <= 0 for extent in extents):
        raise ValueError(f"{shape.get('name')} without an extent; expected sides above 0")
    return [float(value) for value in values]
