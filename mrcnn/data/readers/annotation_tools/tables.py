"""Read CSV tables of run lengths (Kaggle's `ImageId,EncodedPixels` or `id,rle`) or boxes, one row for each object.

Run lengths are pairs `start length` of pixels counted from 1, down the columns or along the rows, or, as in SIIM-ACR
Pneumothorax, each start from the end of the last run. Competitions differ in the order of the pixels, so it is inferred
from the steps between runs: in neighboring lines, they are the length of a line. Boxes are `xmin, ymin, xmax, ymax` (or
`x1, y1, x2, y2`), or `x, y, width, height`. A row without run lengths or coordinates lists an image without instances.
Optional columns: class, patient, split, width and height of the image (beside corners).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.images import read_header
from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems
from mrcnn.data.reader_options import CsvOptions
from mrcnn.data.readers.annotation_tools.annotated_images import (
    AnnotatedImage,
    Encoded,
    Shape,
    read_tool,
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
           "patientid", "img", "id")  # fmt: skip
_CLASSES = ("classname", "class", "classid", "findinglabel", "label", "category")
_SPLITS = ("split", "subset", "set")
_KAGGLE = ("encodedpixels", "pixels")  # down the columns unless the runs show otherwise
_RUNS = (*_KAGGLE, "rle", "rlemask", "maskrle", "encoding", "annotation", "segmentation")
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("bboxx", "y", "w", "h"))
_NO_RUNS = {"", "-1", "nan", "none", "null"}
_OBJECT = "object"  # the class if no column names one
_TELLING_RUNS = 3  # in an object, whose starts ascend by chance if they are relative
_HEAD = 1 << 16  # bytes that are looked at to recognize the form
_FEWEST_STEPS, _MOST_STEPS, _SURE = 10, 2000, 0.8
"""Steps between runs that decide the order of the pixels, how many are counted, and the share that must agree."""


def matches(path: Path) -> bool:
    """Check for a CSV file of run lengths or boxes at `path`, or in it."""
    return bool(_find_files(path))


def read(path: Path, *, patient_pattern: str | None = None, options: CsvOptions) -> Dataset:
    """Read one table, or the tables of a folder.

    Raises:
        InputError: tables or images are invalid; the message lists all problems.
    """
    parse = partial(_parse, pixel_order=options.pixel_order)
    return read_tool(parse, path, patient_pattern=patient_pattern, name_unlisted=True)


def _parse(
    path: Path, problems: Problems, warnings: list[str], *, pixel_order: str
) -> tuple[list[AnnotatedImage], None]:
    """Read the images with their objects; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected a CSV file with ImageId and EncodedPixels, or with an image and a box")
    images: dict[str, AnnotatedImage] = {}
    for file in found:
        files, where = ImageFiles([file.parent]), relative_name(file, root)
        try:
            header, rows = _split_rows(read_text(file))
        except csv.Error as error:
            raise InputError(f"{file}: not a CSV file ({error})") from error
        columns = _columns(header)
        # The first line can be longer than the part by which the table was recognized.
        if "image" not in columns or not columns.keys() & {"runs", "box"}:
            raise InputError(f"{file}: expected the columns ImageId and EncodedPixels, or an image and a box")
        drawn: list[tuple[AnnotatedImage, str, str, str]] = []
        for number, values in rows:
            at = f"{where}, line {number}"
            if len(values) != len(header):
                problems.add(f"{at}: {len(values)} values; expected {len(header)}, as the first line has")
                continue
            row = dict(zip(header, (value.strip() for value in values), strict=True))
            _read_row(row, columns, at, files, images, drawn, split_of(file, root))
        relative = _are_relative([text for *_, text in drawn])
        if relative:
            warnings.append(
                f"{where}: starts do not ascend, so each run counts from the end of the last one, as in SIIM-ACR"
            )
        order = pixel_order
        if drawn and pixel_order == "auto" and not relative:
            order, is_kaggle = _infer_order(drawn), _key(columns["runs"][0]) in _KAGGLE
            told = "along the rows" if order == "rows" else "down the columns"
            if order == "auto" and not is_kaggle:
                problems.add(
                    f"{where}: the runs do not show whether pixels count down the columns or along the rows; set "
                    "csv.pixel_order to columns or rows"
                )
            elif order == "rows" or not is_kaggle:
                warnings.append(f"{where}: pixels count {told}, as the steps between runs show")
        for image, at, name, text in drawn:
            image.shapes.append(Shape(at, name, partial(_encode_runs, text, relative, order == "rows")))
    return list(images.values()), None


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.csv", "*/*.csv"), _is_table)


def _is_table(file: Path) -> bool:
    if file.suffix.lower() != ".csv" or "submission" in file.stem.lower():  # Kaggle's sample_submission.csv
        return False
    header, rows = _split_rows(read_bytes(file)[:_HEAD].decode("utf-8-sig", "replace"))
    columns = _columns(header)
    if "image" not in columns or "runs" not in columns:
        return "image" in columns and "box" in columns
    name = columns["runs"][0]
    texts = [row[header.index(name)].strip() for _, row in rows if len(row) > header.index(name)]
    return _key(name) in _KAGGLE or any(re.fullmatch(r"\d+( +\d+)+", text) for text in texts)


def _split_rows(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Split a table into its header and its numbered rows that are not empty. Raises `csv.Error`."""
    csv.field_size_limit(1 << 27)  # run lengths of one object
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = next(reader, [])
    return header, [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]


def _key(name: str) -> str:
    """Return the form in which names of columns are compared."""
    return re.sub(r"[\W_]+", "", name).lower()


def _columns(header: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns for image, class, split, runs, box and size."""
    by_key = {_key(name): name for name in reversed(header)}
    found: dict[str, tuple[str, ...]] = {}
    for kind, names in (("image", _IMAGES), ("class", _CLASSES), ("split", _SPLITS), ("runs", _RUNS)):
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
    drawn: list[tuple[AnnotatedImage, str, str, str]],
    split: str | None,
) -> None:
    """Add a row to its image, or to `drawn` if it has run lengths; `split` is that of its folder."""
    stated = row[columns["image"][0]]
    image = images.get(stated)
    if image is None:
        image = images[stated] = AnnotatedImage(f"{at}: {stated}", stated, files, by_stem=True)
        with suppress(ValueError):  # reported when the image is opened
            image.file = files.find_by_stem(stated)
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
            drawn.append((image, at, name, text))
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


def _are_relative(texts: Sequence[str]) -> bool:
    """Check whether the starts of most objects of several runs do not ascend, so that they count from the last run."""
    ascending = []
    for text in texts:
        values = [parse_integer(word) for word in text.split()]
        starts = [value for value in values[::2] if value is not None]
        if len(starts) >= _TELLING_RUNS and 2 * len(starts) == len(values):
            ascending.append(all(one < other for one, other in pairwise(starts)))
    return bool(ascending) and 2 * sum(ascending) < len(ascending)


def _infer_order(drawn: Sequence[tuple[AnnotatedImage, str, str, str]]) -> Literal["columns", "rows", "auto"]:
    """Infer whether pixels count down the columns or along the rows; `auto` if the runs do not show it.

    The starts of the runs of an object in neighboring columns differ by about the height of the image, in neighboring
    rows by its width. Square images show nothing, as the other order transposes them.
    """
    down = along = 0
    sizes: dict[Path, tuple[int, int]] = {}
    for image, _, _, text in drawn:
        if down + along >= _MOST_STEPS or not isinstance(image.file, Path):
            continue
        try:
            if image.file not in sizes:
                header = read_header(image.file)
                sizes[image.file] = header.height, header.width
            starts = np.sort(np.array(text.split()[::2], np.int64))
        except (InputError, ValueError, OverflowError):
            continue  # reported when it is read
        height, width = sizes[image.file]
        steps = np.diff(starts)
        steps = steps[(steps > min(height, width) / 2) & (steps < 1.5 * max(height, width))]  # to a neighboring line
        from_height, from_width = np.abs(steps - height), np.abs(steps - width)
        down, along = down + int((from_height < from_width).sum()), along + int((from_width < from_height).sum())
    if down + along < _FEWEST_STEPS or max(down, along) < _SURE * (down + along):
        return "auto"
    return "columns" if down > along else "rows"


def _encode_runs(text: str, relative: bool, by_rows: bool, height: int, width: int) -> Encoded:
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
    mask = np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
    mask = mask.reshape(height, width) if by_rows else mask.reshape(width, height).T
    return encode_mask(mask, 0, 0, height, width)
