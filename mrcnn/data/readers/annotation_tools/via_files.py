"""Find VIA files, and read their entries in the form of VIA 2: an object with filename, file_attributes and regions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mrcnn.data.problems import Problems
from mrcnn.data.readers.annotation_tools.annotated_images import relative_name
from mrcnn.data.readers.image_files import files_below, load_json, parse_integer, read_bytes, read_text
from mrcnn.errors import InputError

_USUAL_NAME = "via_region_data.json"
_HEAD = 4096  # bytes that are looked at to recognize a CSV file
_CSV_COLUMNS = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
_VIA3_HEADER = b"# CSV_HEADER = metadata_id,file_list,"
_VIA3_COLUMNS = 6  # metadata_id, file_list, flags, temporal_coordinates, spatial_coordinates, metadata
_VIA3 = (b'"metadata"', b'"view"', b'"fid_list"')
_SHAPES = {
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
}
"""Shapes of VIA 3 by number, and the names of their coordinates in VIA 2."""
_POLYGON, _EXTREMES = 7, 8
_SHAPES_WITHOUT_AREA = {1: "point", 5: "line", 6: "polyline", 9: "extreme circle"}
_CHECKBOX = 2
_IMAGE_FILE = 2


def find_via_files(path: Path) -> list[Path]:
    """Find the VIA file at `path`, or in the folder, or in each of its direct subfolders.

    Raises:
        InputError: a folder has several VIA files and none of the usual name.
    """
    if path.is_file():
        return [path] if _is_via(path) else []
    for below in ("", "*/"):
        folders: dict[Path, list[Path]] = {}
        for suffix in ("json", "csv"):  # an export may have both
            for file in sorted(files_below(path, f"{below}*.{suffix}")):
                if (suffix == "json" or file.parent not in folders) and _is_via(file):
                    folders.setdefault(file.parent, []).append(file)
        if folders:
            return [_choose(found) for found in folders.values()]
    return []


def _choose(files: list[Path]) -> Path:
    """Choose the file to read in a folder, which may contain a project and its export."""
    usual = [file for file in files if file.name == _USUAL_NAME]
    if len(files) > 1 and not usual:
        names = ", ".join(file.name for file in files)
        raise InputError(f"{files[0].parent}: expected one VIA file or {_USUAL_NAME}; found {names}")
    return (usual or files)[0]


def _is_via(file: Path) -> bool:
    if file.suffix.lower() == ".csv":
        content = read_bytes(file)
        line = content[:_HEAD].partition(b"\n")[0]
        return b"region_shape_attributes" in line or (b"VGG Image Annotator" in line and _VIA3_HEADER in content)
    if file.suffix.lower() != ".json":
        return False
    content = read_bytes(file)
    if b'"_via_img_metadata"' in content or (b'"filename"' in content and b'"regions"' in content):
        return True
    return all(key in content for key in _VIA3)


def read_entries(file: Path, root: Path, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each entry in messages, and the entry.

    Raises:
        InputError: the file is no VIA file.
    """
    name = relative_name(file, root)
    if file.suffix.lower() == ".csv":
        table = _read_via3_csv if _VIA3_HEADER in read_bytes(file) else _read_csv
        yield from table(file, name, problems)
        return
    content = load_json(file)
    if isinstance(content, dict) and isinstance(content.get("view"), dict) and "metadata" in content:
        yield from _read_via3(content, name, problems)
        return
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, (dict, list)):
        raise InputError(f"{file}: expected an object with an entry for each image")
    for key, entry in content.items() if isinstance(content, dict) else enumerate(content):
        if isinstance(entry, dict):
            yield f"{name}: {entry.get('filename', key)}", entry
        else:
            problems.add_skippable(f"{name}: {key}: expected an object with filename and regions")


def _read_csv(file: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a CSV export of VIA 1 and 2, which has a row for each region."""
    entries: dict[tuple[str, str], dict[str, Any]] = {}
    try:
        rows = csv.DictReader(io.StringIO(read_text(file), newline=""))
        missing = [column for column in _CSV_COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{file}: expected the columns {', '.join(_CSV_COLUMNS)}")
        for row in rows:
            key = str(row["filename"]), str(row.get("file_size"))
            fields = [_parse(row[column]) for column in _CSV_COLUMNS[1:]]
            entry = entries.setdefault(key, {"filename": key[0], "file_attributes": fields[0], "regions": []})
            if None in fields:
                entry["regions"].append(f"line {rows.line_num}")  # reported with the other regions
            elif fields[1]:
                entry["regions"].append({"shape_attributes": fields[1], "region_attributes": fields[2]})
    except csv.Error as error:
        raise InputError(f"{file}: not a CSV file ({error})") from error
    for (filename, _), entry in entries.items():
        yield f"{name}: {filename}", entry


def _read_via3_csv(file: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a CSV export of VIA 3: a row for each region, after comments with the attributes as JSON.

    An image without regions and attributes has no row, so it is not annotated.
    """
    lines = read_text(file).splitlines()
    stated = next((line.partition("=")[2] for line in lines if line.startswith("# ATTRIBUTE")), "{}")
    attributes = _parse(stated.strip())
    if attributes is None:
        raise InputError(f"{file}: expected the attributes as a JSON object after # ATTRIBUTE =")
    named = {key: each if isinstance(each, dict) else {"aname": each} for key, each in attributes.items()}
    files: dict[str, Any] = {}
    views: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    rows = csv.reader([line for line in lines if line.strip() and not line.startswith("#")])
    try:
        for number, row in enumerate(rows, start=1):
            cells = [_parse_json(cell) for cell in row[1:]]
            listed = cells[0] if len(row) == _VIA3_COLUMNS else None
            if not isinstance(listed, list) or not isinstance(cells[4], dict):
                problems.add_skippable(
                    f"{name}: row {number}: expected metadata_id, file_list, flags, temporal_coordinates, "
                    "spatial_coordinates, metadata"
                )
                continue
            key = json.dumps(listed)
            files |= {str(each): {"fname": each, "type": _IMAGE_FILE} for each in listed}
            views[key] = {"fid_list": [str(each) for each in listed]}
            metadata[f"{row[0]} (row {number})"] = {"vid": key, "z": cells[2], "xy": cells[3], "av": cells[4]}
    except csv.Error as error:
        raise InputError(f"{file}: not a CSV file ({error})") from error
    content = {"attribute": named, "file": files, "metadata": metadata, "view": views}
    yield from _read_via3(content, name, problems)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse(text: str | None) -> dict[str, Any] | None:
    """Parse the object in a cell; None if it is none."""
    value = _parse_json(text or "{}")
    return value if isinstance(value, dict) else None


def _read_via3(content: dict[str, Any], name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of a VIA 3 project, where a view shows an image and metadata are its regions and attributes."""
    keys = ("attribute", "file", "metadata", "view")
    if not all(isinstance(content.get(key), dict) for key in keys):
        raise InputError(f"{name}: expected a VIA 3 project with the objects {', '.join(keys)}")
    attributes, files, metadata, views = (content[key] for key in keys)
    entries: dict[str, dict[str, Any]] = {}
    for key, view in views.items():
        listed = view.get("fid_list") if isinstance(view, dict) else None
        file = files.get(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else None
        if not isinstance(file, dict) or parse_integer(file.get("type")) != _IMAGE_FILE:
            problems.add_skippable(f"{name}: view {key}: expected one image; videos and pairs of images are not read")
        else:
            entries[key] = {"filename": file.get("fname") or file.get("src"), "file_attributes": {}, "regions": {}}
    for key, each in metadata.items():
        entry = entries.get(str(each.get("vid"))) if isinstance(each, dict) else None
        if entry is None:
            problems.add_skippable(f"{name}: metadata {key}: expected an object with the vid of a view of one image")
            continue
        values = _named(each.get("av"), attributes)
        if each.get("z"):
            entry["regions"][key] = "at a time of a video"
        elif each.get("xy"):
            entry["regions"][key] = {"shape_attributes": _shape(each["xy"]), "region_attributes": values}
        else:
            entry["file_attributes"] |= values
    for entry in entries.values():
        yield f"{name}: {entry['filename']}", entry


def _named(values: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """Replace the ids of attributes and of their options by their names."""
    found: dict[str, Any] = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        attribute = attributes.get(key)
        attribute = attribute if isinstance(attribute, dict) else {}
        options = attribute.get("options")
        options = options if isinstance(options, dict) else {}
        if parse_integer(attribute.get("type")) == _CHECKBOX and isinstance(value, str):
            value = {str(options.get(each, each)): True for each in value.split(",") if each}
        elif isinstance(value, str):
            value = options.get(value, value)
        found[str(attribute.get("aname", key))] = value
    return found


def _shape(xy: Any) -> dict[str, Any]:
    """Convert coordinates [shape, x, y, …] of VIA 3 to the shape attributes of VIA 2."""
    kind = parse_integer(xy[0]) if isinstance(xy, list) else None
    values = xy[1:] if isinstance(xy, list) else []
    if kind in _SHAPES and len(values) == len(_SHAPES[kind][1]):
        shape, names = _SHAPES[kind]
        return {"name": shape, **dict(zip(names, values, strict=True))}
    if kind == _POLYGON:
        return {"name": "polygon", "all_points_x": values[::2], "all_points_y": values[1::2]}
    if kind == _EXTREMES and len(values) == 8 and all(type(value) in (int, float) for value in values):
        across, down = values[::2], values[1::2]
        x, y = min(across), min(down)
        return {"name": "rect", "x": x, "y": y, "width": max(across) - x, "height": max(down) - y}
    return {"name": _SHAPES_WITHOUT_AREA.get(kind or 0, f"{kind} of {len(values)} coordinates")}
