"""Build a data set from the images and outlines that the files of an annotation tool list.

Each tool has a module whose `parse` reads its files into `AnnotatedImage`s. What all tools have in common happens here:
images are found and opened, sizes, EXIF orientation, classes and outlines checked, patients named.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.pictures import UPRIGHT
from mrcnn.data.names import normalize_text
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.image_files import (
    ImageFiles,
    images_below,
    is_valid_text,
    parse_integer,
    read_record_fields,
)
from mrcnn.data.readers.orientation import REMEDY, Size, find_annotated_as_stored, orient_run, stored_size
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.data.readers.segmentation import BEYOND
from mrcnn.data.sample import Spacing
from mrcnn.errors import counted

Encoded = tuple[bytes, Sequence[str]]
"""Run-length string of an instance, and warnings about its outline."""
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val"}
_SPLITS |= {"test": "test", "testing": "test"}


@dataclass
class Shape:
    """Describe an outlined object.

    Attributes:
        where: its name in messages.
        class_name: as the file states it.
        encode: (height, width) of the annotated image → run-length string and warnings. Raises `ValueError` if the
            outline is invalid; the message continues a sentence that begins with `where`.
        is_box: whether the object has a box and no outline.
        is_crowd: whether it marks a group of objects.
        group: shapes of one class with the same group are one instance; None for a shape by itself.
    """

    where: str
    class_name: Any
    encode: Callable[[int, int], Encoded]
    is_box: bool = False
    is_crowd: bool = False
    group: Hashable = None


@dataclass
class AnnotatedImage:
    """Describe an image with its annotations.

    Attributes:
        where: its name in messages.
        file: its path, or the name in the annotations, which `files` finds.
        files: the folders where it may lie, or was found.
        shapes: its objects.
        size: (height, width) in the annotations, or None if they state none.
        patient: in the annotations, or None.
        split: train, val or test, or None if the tool states none.
        faults: problems of its annotations.
        name: `Record.file_name`; None for the path below the data set.
        stated_name: name that `patient_pattern` is searched in; None for `name`.
        spacing_mm: (row, column) size of a pixel in the annotations, or None.
        label: image-level class, or None.
        by_stem: whether `file` may lack its suffix.
    """

    where: str
    file: Any
    files: ImageFiles | None = None
    shapes: list[Shape] = field(default_factory=list)
    size: Size | None = None
    patient: Any = None
    split: str | None = None
    faults: list[str] = field(default_factory=list)
    name: str | None = None
    stated_name: str | None = None
    spacing_mm: Spacing | None = None
    label: str | None = None
    by_stem: bool = False

    def set_size(self, height: Any, width: Any, fault: str | None = None) -> None:
        """Set `size` to the stated numbers of pixels; unless both are valid, add `fault` instead."""
        rows, columns = parse_integer(height), parse_integer(width)
        if rows is not None and columns is not None and min(rows, columns) > 0:
            self.size = rows, columns
        elif fault is not None:
            self.faults.append(fault)


def split_name(text: str) -> str | None:
    """Return train, val or test for the usual names of these splits, such as `valid` or `Training`; else None."""
    return _SPLITS.get(re.sub(r"([-_ ]?(set|data|images))$", "", text.strip().lower()))


def split_of(path: Path, root: Path) -> str | None:
    """Return the split that the innermost folder named after one states; None without one."""
    folders = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
    return next((split for name in reversed(folders) if (split := split_name(name))), None)


def read_tool(
    parse: Callable[[Path, Problems, list[str]], tuple[list[AnnotatedImage], Sequence[str] | None]],
    path: Path,
    *,
    patient_pattern: str | None = None,
    name_unlisted: bool = False,
) -> Dataset:
    """Read a data set with the `parse` of a tool: (path, problems, warnings) → its images and classes, or None.

    `name_unlisted` warns about images in the folder that the tool lists without annotations or not at all.

    Raises:
        InputError: annotations or images are invalid; the message lists all problems.
    """
    problems, warnings = Problems(path), []
    images, class_names = parse(path, problems, warnings)
    root = path if path.is_dir() else path.parent
    dataset = build_dataset(root, images, class_names, problems, warnings, patient_pattern)
    if not (name_unlisted and path.is_dir()):
        return dataset
    found = {record.path for record in dataset.records} | {image.file for image in images}
    unlisted = [relative_name(file, root) for file in images_below(root) if file not in found]
    text = "images in the folder have no entry with annotations and are left out"
    return dataset.with_warnings(name_warnings(text, unlisted))


def build_dataset(
    root: Path,
    images: Sequence[AnnotatedImage],
    class_names: Sequence[str] | None,
    problems: Problems,
    warnings: list[str],
    patient_pattern: str | None,
) -> Dataset:
    """Build the data set of annotated images.

    Args:
        root: folder of the data set, which the names of records are relative to.
        images: images with their shapes.
        class_names: classes in their order; None for those that the shapes name, sorted.
        problems: of the data set; problems of single images are skippable.
        warnings: list to which warnings are appended.
        patient_pattern: see `read_dataset`.

    Raises:
        InputError: a problem is fatal, or no image can be read.
    """
    rows: list[dict[str, Any]] = []
    opened: list[AnnotatedImage] = []
    sizes: dict[Path, Size] = {}
    for image in images:
        row = _open(image, root, sizes, problems)
        if row is not None:
            rows.append(row)
            opened.append(image)
    for path, count in Counter(row["path"] for row in rows).items():
        if count > 1:
            names = [image.where for image, row in zip(opened, rows, strict=True) if row["path"] == path]
            problems.add_skippable(
                f"{relative_name(path, root)} stands in {count} entries ({', '.join(names[:3])}); expected one", path
            )
    for files in {id(image.files): image.files for image in images if image.files is not None}.values():
        warnings += files.warnings()
    on_stored = find_annotated_as_stored(rows, sizes, problems, warnings)
    names, class_of = _read_classes(opened, rows, class_names, problems)
    owners, class_ids, runs, wheres, crowds, boxed = [], [], [], [], [], []
    doubtful: dict[str, list[str]] = {}
    for owner, (image, row) in enumerate(zip(opened, rows, strict=True)):
        together: dict[Hashable, int] = {}
        if image.size is not None and row["path"] not in sizes:
            continue  # the sizes differ, which is reported
        for shape in image.shapes:
            try:
                run, doubts = _encode(shape, image, row, on_stored)
            except ValueError as error:
                problems.add_skippable(f"{shape.where}: {error}", row["path"])
                continue
            class_id = class_of.get(_key(shape.class_name))
            if class_id is None:
                continue
            if shape.is_crowd:
                crowds.append((owner, class_id, run))
                continue
            for doubt in doubts:
                doubtful.setdefault(doubt, []).append(shape.where)
            boxed += [shape.where] if shape.is_box else []
            key = (class_id, shape.group)
            if shape.group is not None and key in together:
                runs[together[key]] = _union([runs[together[key]], run], row)
                continue
            together[key] = len(runs)
            owners.append(owner)
            class_ids.append(class_id)
            runs.append(run)
            wheres.append(shape.where)
    warnings += name_warnings(
        "annotations are boxes without an outline; the whole box is the mask, so mask scores measure boxes", boxed
    )
    if crowds:
        warnings.append(
            counted(len(crowds), "annotation marks a crowd", "annotations mark crowds")
            + " (iscrowd=1): training and evaluation ignore these regions; "
            "set iscrowd to 0 where one is a single instance"
        )
    for doubt, names_of in doubtful.items():
        warnings += name_warnings(f"annotations {doubt}", names_of)
    in_files, stated = [row["patient_id"] for row in rows], [image.patient for image in opened]
    file_names = [image.stated_name or row["file_name"] for image, row in zip(opened, rows, strict=True)]
    patients, found = name_patients(stated, file_names, patient_pattern, problems, in_files=in_files)
    if not rows:
        problems.add("images: none can be read; expected at least one")
    problems.raise_if_fatal()
    rows = [add_patient(row, patient) for row, patient in zip(rows, patients, strict=True)]
    return assemble_dataset(names, rows, owners, class_ids, runs, wheres, [*warnings, *found], problems, crowds)


def relative_name(path: Path, root: Path) -> str:
    """Return a path below the data set with forward slashes, for messages and `Record.file_name`."""
    return Path(os.path.relpath(path, root)).as_posix()


def _open(image: AnnotatedImage, root: Path, sizes: dict[Path, Size], problems: Problems) -> dict[str, Any] | None:
    """Read the record fields of an image; None, with a problem, if it cannot be found or read."""
    path = image.file if isinstance(image.file, Path) else None
    try:
        if path is None and image.files is not None:
            path = (image.files.find_by_stem if image.by_stem else image.files.find)(image.file)
    except ValueError as error:
        problems.add_skippable(f"{image.where}: {error}")
    for fault in image.faults:
        problems.add_skippable(fault, path)
    if path is None:
        return None
    row = read_record_fields(image.name or relative_name(path, root), path, image.where, problems)
    if row is None:
        return None
    row |= {"split": image.split, "label": image.label, "spacing_mm": image.spacing_mm or row["spacing_mm"]}
    if image.size in ((row["height"], row["width"]), stored_size(row)):
        sizes[path] = image.size
    elif image.size is not None:
        height, width = image.size
        problems.add_skippable(
            f"{image.where}: {row['file_name']} has {row['width']}×{row['height']} pixels; expected {width}×{height}",
            path,
        )
    return row


def _encode(shape: Shape, image: AnnotatedImage, row: dict[str, Any], on_stored: set[Path]) -> Encoded:
    """Encode a shape on the grid of the displayed image."""
    stored = row["path"] in on_stored
    size = stored_size(row) if stored else (row["height"], row["width"])
    run, doubts = shape.encode(*size)
    if BEYOND in doubts and image.size is None and row["orientation"] != UPRIGHT:
        raise ValueError(f"reaches beyond its picture as the EXIF orientation turns it; {REMEDY}")
    return (orient_run(run, size, row["orientation"]) if stored else run), doubts


def _union(runs: list[bytes], row: dict[str, Any]) -> bytes:
    size = [row["height"], row["width"]]
    whole: Any = coco_mask.merge([{"size": size, "counts": run} for run in runs])
    return whole["counts"]


def _key(name: Any) -> str | None:
    """Return the form in which class names are compared; None for a name that is no text."""
    name = str(name) if type(name) in (int, float) else name
    return unicodedata.normalize("NFKC", normalize_text(name) or "") or None if is_valid_text(name) else None


def unique_names(names: Sequence[Any]) -> list[str]:
    """Return the distinct class names in their order; names that differ in Unicode form or spaces are one."""
    shown: dict[str, str] = {}
    for name in names:
        if key := _key(name):
            shown.setdefault(key, normalize_text(name) or key)
    return list(shown.values())


def _read_classes(
    images: Sequence[AnnotatedImage],
    rows: Sequence[dict[str, Any]],
    class_names: Sequence[str] | None,
    problems: Problems,
) -> tuple[list[str], dict[str | None, int]]:
    """Return class names and the 1-based class id of each key; shapes of other classes become problems."""
    stated = class_names is not None
    if class_names is None:
        used = [str(shape.class_name) for image in images for shape in image.shapes if _key(shape.class_name)]
        class_names = sorted(used, key=lambda name: normalize_text(name) or "")
    names = unique_names(class_names)
    class_of = {_key(name): number for number, name in enumerate(names, start=1)}
    for image, row in zip(images, rows, strict=True):
        for shape in image.shapes:
            if _key(shape.class_name) not in class_of:
                expected = f"one of {', '.join(names[:20])}" if stated else "a text"
                problems.add_skippable(f"{shape.where}: class {shape.class_name!r}; expected {expected}", row["path"])
    return names, class_of
