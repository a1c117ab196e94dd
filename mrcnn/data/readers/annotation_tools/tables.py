"""Read CSV tables of run lengths (Kaggle's `ImageId,EncodedPixels`) or boxes, one row for each object.

Run lengths are pairs `start length` of pixels counted from 1 down the columns, or, as in SIIM-ACR Pneumothorax, each
start from the end of the last run. Boxes are `xmin, ymin, xmax, ymax` (or
`x1, y1, x2, y2`), or `x, y, width, height`. A row without run lengths or coordinates lists an image without instances.
Optional columns: class, patient, split, width and height of the image (beside corners).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems
from mrcnn.data.readers.annotation_tools.annotated_images import (
    AnnotatedImage,
    Encoded,
    Shape,
    relative_name,
    split_name,
    split_of,
)
from mrcnn.data.readers.annotation_tools.outlines import encode_box, encode_mask, numbers
from mrcnn.data.readers.image_files import (
    ImageFiles,
    find_annotation_files,
    parse_integer,
    read_bytes,
    read_text,
)
from mrcnn.errors import InputError

_IMAGES = ("imageid", "imageindex", "filename", "image", "imagename", "imagepath", "imagefile", "file", "path",
           "patientid")  # fmt: skip
_CLASSES = ("classname", "class", "classid", "findinglabel", "label", "category")
_SPLITS = ("split", "subset", "set")
_RUNS = "encodedpixels"
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("bboxx", "y", "w", "h"))
_NO_RUNS = {"", "-1", "nan", "none", "null"}
_OBJECT = "object"  # the class if no column names one
_TELLING_RUNS = 3  # in an object, whose starts ascend by chance if they are relative
_HEAD = 4096  # bytes that are looked at to recognize the form


def matches(path: Path) -> bool:
    """Check for a CSV file of run lengths or boxes at `path`, or in it."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], None]:
    """Read one table, or the tables of a folder; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected a CSV file with ImageId and EncodedPixels, or with an image and a box")
    images: dict[str, AnnotatedImage] = {}
    for file in found:
        files, where = ImageFiles([file.parent]), relative_name(file, root)
        try:
            header, rows = _read_rows(file)
        except csv.Error as error:
            raise InputError(f"{file}: not a CSV file ({error})") from error
        columns = _columns(header)
        relative = "runs" in columns and _are_relative([values for _, values in rows], header.index(columns["runs"][0]))
        if relative:
            warnings.append(
                f"{where}: starts do not ascend, so each run counts from the end of the last one, as in SIIM-ACR"
            )
        for number, values in rows:
            at = f"{where}, line {number}"
            if len(values) != len(header):
                problems.add(f"{at}: {len(values)} values; expected {len(header)}, as the first line has")
                continue
            row = dict(zip(header, (value.strip() for value in values), strict=True))
            _read_row(row, columns, at, files, images, relative, split_of(file, root))
    return list(images.values()), None


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.csv", "*/*.csv"), _is_table)


def _is_table(file: Path) -> bool:
    if file.suffix.lower() != ".csv":
        return False
    line = next(iter(read_bytes(file)[:_HEAD].decode("utf-8-sig", "replace").splitlines()), "")
    columns = _columns(next(csv.reader([line], delimiter=_delimiter(line)), []))
    return "image" in columns and ("runs" in columns or "box" in columns)


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _read_rows(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read the header and the numbered rows of a table."""
    text = read_text(file)
    csv.field_size_limit(1 << 27)  # run lengths of one object
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]))
    header = next(reader, [])
    return header, [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]


def _columns(header: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns for image, class, split, runs, box and size."""
    by_key = {re.sub(r"[\W_]+", "", name).lower(): name for name in reversed(header)}
    found: dict[str, tuple[str, ...]] = {}
    for kind, names in (("image", _IMAGES), ("class", _CLASSES), ("split", _SPLITS), ("runs", (_RUNS,))):
        chosen = next((by_key[name] for name in names if name in by_key), None)
        if chosen is not None:
            found[kind] = (chosen,)
    for names in (*_CORNERS, *_SIDES):
        if "box" not in found and all(name in by_key for name in names):
            found["box"] = tuple(by_key[name] for name in names)
            found["corners"] = () if names in _SIDES else names
            if names in _CORNERS and "width" in by_key and "height" in by_key:
                found["size"] = by_key["height"], by_key["width"]
    return found


def _read_row(
    row: Mapping[str, str],
    columns: Mapping[str, tuple[str, ...]],
    at: str,
    files: ImageFiles,
    images: dict[str, AnnotatedImage],
    relative: bool,
    split: str | None,
) -> None:
    """Add a row to its image; `split` is that of its folder."""
    stated = row[columns["image"][0]]
    image = images.get(stated)
    if image is None:
        image = images[stated] = AnnotatedImage(f"{at}: {stated}", None, files)
        try:
            image.file = files.find_by_stem(stated)
        except ValueError as error:
            image.faults.append(f"{image.where}: {error}")
        image.patient = find_patient(row)
        image.split = split_name(row[columns["split"][0]]) if "split" in columns else split
    elif "split" in columns and image.split != split_name(row[columns["split"][0]]):
        image.faults.append(f"{at}: split {row[columns['split'][0]]!r} differs from that of other rows of the image")
    if "size" in columns:
        height, width = (parse_integer(row[name]) for name in columns["size"])
        if height is None or width is None:
            image.faults.append(f"{at}: expected its width and height")
        elif image.size not in (None, (height, width)):
            image.faults.append(f"{at}: size {width}×{height} differs from that of other rows of the image")
        else:
            image.size = height, width
    name = row[columns["class"][0]] if "class" in columns else _OBJECT
    if "runs" in columns:
        text = row[columns["runs"][0]]
        if text.lower() not in _NO_RUNS:
            image.shapes.append(Shape(at, name, partial(_encode_runs, text, relative)))
    elif any(row[column] for column in columns["box"]):
        values, corners = [row[column] for column in columns["box"]], bool(columns["corners"])
        image.shapes.append(Shape(at, name, partial(_encode_values, values, corners), is_box=True))


def _encode_values(values: Sequence[str], corners: bool, height: int, width: int) -> Encoded:
    x1, y1, x2, y2 = numbers(values)
    if not corners:
        x2, y2 = x1 + x2, y1 + y2
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"has a box that ends before it begins, from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g})")
    return encode_box((x1, y1, x2, y2), height, width)


def _are_relative(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Check whether the starts of most objects of several runs do not ascend, so that they count from the last run."""
    ascending = []
    for row in rows:
        values = [parse_integer(word) for word in row[column].split()] if column < len(row) else []
        starts = [value for value in values[::2] if value is not None]
        if len(starts) >= _TELLING_RUNS and 2 * len(starts) == len(values):
            ascending.append(all(one < other for one, other in pairwise(starts)))
    return bool(ascending) and 2 * sum(ascending) < len(ascending)


def _encode_runs(text: str, relative: bool, height: int, width: int) -> Encoded:
    """Encode runs whose starts count from pixel 1, or, if `relative`, from 0 at the end of the last run."""
    values, first, pixels = [parse_integer(word) for word in text.split()], int(not relative), height * width
    if len(values) % 2 or any(value is None or not first <= value <= pixels for value in values):
        raise ValueError(f"has run lengths that are not pairs of numbers from {first} to {pixels} ({width}×{height})")
    starts, lengths = np.array(values, np.int64).reshape(-1, 2).T
    end = np.cumsum(starts + lengths) if relative else starts - 1 + lengths
    begin = end - lengths
    if end.max(initial=0) > pixels:
        raise ValueError(f"has a run that ends at pixel {end.max()}; expected at most {pixels} ({width}×{height})")
    order = np.argsort(begin, kind="stable")
    if (begin[order][1:] < end[order][:-1]).any():
        raise ValueError("has runs that overlap; expected starts counted from the first pixel, not from the last run")
    steps = np.zeros(pixels + 1, np.int8)
    np.add.at(steps, begin, 1)
    np.add.at(steps, end, -1)
    mask = np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(width, height).T
    return encode_mask(mask, 0, 0, height, width)
