"""Read COCO panoptic sets: a JSON file, and a PNG file for each image whose colors are the ids of its segments.

Segments of things are instances. Segments of stuff are regions without instances and are left out, unless the file has
no things at all.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mrcnn.data.io.pictures import DECODING_ERRORS, open_picture
from mrcnn.data.names import find_patient
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.annotation_tools.annotated_images import (
    AnnotatedImage,
    Shape,
    relative_name,
    split_name,
)
from mrcnn.data.readers.annotation_tools.outlines import encode_mask
from mrcnn.data.readers.annotation_tools.voc import crops_by_value
from mrcnn.data.readers.coco_files import entries_by_id, identifier, image_folders, read_categories
from mrcnn.data.readers.image_files import (
    ImageFiles,
    find_annotation_files,
    load_json,
    parse_flag,
    parse_integer,
    read_bytes,
)
from mrcnn.errors import InputError

_PREFIX = "panoptic_"


def matches(path: Path) -> bool:
    """Check for a JSON file with segments at `path`, or in it or its folder `annotations`."""
    return bool(_find_files(path))


def parse(path: Path, problems: Problems, warnings: list[str]) -> tuple[list[AnnotatedImage], list[str]]:
    """Read one file, or the files of a folder, such as one for each split; see `annotated_images`."""
    root = path if path.is_dir() else path.parent
    found = _find_files(path)
    if not found:
        raise InputError(f"{path}: expected a COCO panoptic JSON with segments_info")
    contents = [_load(file) for file in found]
    labels = [f"{relative_name(file, root)}: " for file in found]
    names, class_of = read_categories(contents, labels, problems, warnings)
    problems.raise_if_fatal()
    images, stuff, bare = [], [], []
    for file, content, label, classes in zip(found, contents, labels, class_of, strict=True):
        things = _things(content)
        folders, split = image_folders(file, found), file.stem.removeprefix(_PREFIX)
        files = ImageFiles([*(folder / name / split for folder in folders for name in ("images", "")), *folders])
        masks = ImageFiles([file.parent / file.stem, file.parent, root])
        listed = {}
        for where, key, entry in entries_by_id("images", content["images"], label, lambda text, _: problems.add(text)):
            image = AnnotatedImage(where, entry.get("file_name"), files, patient=find_patient(entry))
            image.split = split_name(split.rstrip("0123456789"))
            image.set_size(entry.get("height"), entry.get("width"), f"{where}: expected its height and width")
            listed[key] = image
        seen = set()
        for number, entry in enumerate(content["annotations"]):
            where = f"{label}annotations[{number}]"
            key = identifier(entry.get("image_id")) if isinstance(entry, dict) else None
            if key not in listed:
                problems.add_skippable(f"{where}: image_id is not among the images")
            elif key in seen:
                listed[key].faults.append(f"{where}: image_id {key} stands twice")
            else:
                seen.add(key)
                _read_segments(entry, where, listed[key], masks, (names, classes), things, stuff)
        bare += [image.where for key, image in listed.items() if key not in seen]
        images += listed.values()
    warnings += name_warnings("images have no annotation and count as images without instances", bare)
    warnings += name_warnings("segments of stuff (isthing 0) are left out", stuff)
    return images, names


def _find_files(path: Path) -> list[Path]:
    return find_annotation_files(path, ("*.json", "annotations/*.json"), _is_panoptic)


def _is_panoptic(file: Path) -> bool:
    return file.suffix.lower() == ".json" and b'"segments_info"' in read_bytes(file)


def _load(file: Path) -> dict[str, list]:
    content: Any = load_json(file)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(f"{file}: expected a COCO object with the lists images, annotations and categories")
    return content


def _things(content: dict[str, list]) -> set[int | str | None]:
    """Return the ids of the categories of things; all of them if none is a thing."""
    entries = [entry for entry in content["categories"] if isinstance(entry, dict)]
    things = {identifier(entry.get("id")) for entry in entries if entry.get("isthing") in (1, True)}
    return things or {identifier(entry.get("id")) for entry in entries}


def _read_segments(
    entry: dict[str, Any],
    where: str,
    image: AnnotatedImage,
    masks: ImageFiles,
    classes: tuple[list[str], dict[int | str, int]],
    things: set[int | str | None],
    stuff: list[str],
) -> None:
    """Add the segments of an annotation to its image."""
    segments = entry.get("segments_info")
    if not isinstance(segments, list) or not all(isinstance(each, dict) for each in segments):
        image.faults.append(f"{where}: segments_info is {type(segments).__name__}; expected a list of objects")
        return
    try:
        path = masks.find(entry.get("file_name"))
        with open_picture(path, ("PNG",)) as picture:
            values = np.array(picture.convert("RGB")).astype(np.int64)
        codes = values[..., 0] + (values[..., 1] << 8) + (values[..., 2] << 16)
        crops = dict(crops_by_value(codes, path))
    except (ValueError, *DECODING_ERRORS, Image.UnidentifiedImageError) as error:
        image.faults.append(f"{where}: its PNG cannot be read ({error})")
        return
    try:
        image.file = image.files.find(image.file) if image.files else image.file
    except ValueError:
        return  # reported when it is opened
    if image.file == path:
        image.file = None
        image.faults.append(f"{image.where}: {path.name} is found as mask only; expected an image of that name, too")
        return
    if image.size is not None and codes.shape != image.size:
        image.faults.append(
            f"{path.name}: has {codes.shape[1]}×{codes.shape[0]} pixels; expected {image.size[1]}×{image.size[0]}"
        )
        return
    names, class_of = classes
    for number, segment in enumerate(segments):
        at, key, category = (
            f"{where}, segment {number}",
            parse_integer(segment.get("id")),
            identifier(segment.get("category_id")),
        )
        crop = crops.pop(key, None) if key is not None else None
        if crop is None or category not in class_of:
            told = "id" if crop is None else "category_id"
            of = f"the colors of {path.name}" if crop is None else "the categories"
            image.faults.append(f"{at}: {told} {str(segment.get(told))[:40]} is not among {of}")
        elif category not in things:
            stuff.append(at)
        else:
            try:
                crowd = parse_flag(segment.get("iscrowd"))
            except ValueError as error:
                image.faults.append(f"{at}: iscrowd {error}")
                continue
            encode = partial(encode_mask, crop.pixels, crop.top, crop.left)
            image.shapes.append(Shape(at, names[class_of[category] - 1], encode, is_crowd=crowd))
    if crops:
        image.faults.append(f"{path.name}: holds the ids {sorted(crops)[:5]}, which segments_info does not list")
