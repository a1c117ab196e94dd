"""Mask folders: images, and for each a mask or several as PNG, TIFF or NPY of the same size.

A mask belongs to the image whose name it begins with: `a.png` has `a.png`, `a_mask.png`, or one file for each instance,
`a_0.png`, `a_1.png`, … or all that lie in a folder `a`. Images and masks lie in `images` and `masks`, of the data set
or of any folder directly below it (a split, or one image each), or side by side, told apart by the suffix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects, label

from mrcnn.data.dataset import Dataset
from mrcnn.data.file_listing import is_system_name
from mrcnn.data.images import UNREADABLE, open_picture, read_image
from mrcnn.data.readers.assemble import assemble
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, read_row
from mrcnn.data.readers.options import MasksOptions
from mrcnn.data.readers.patients import name_patients, with_patient
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

_MASK_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
_MOST_INSTANCES = 10_000  # of one mask; more are the noise of a picture that is no mask
_TOUCHING = np.ones((3, 3), int)  # pixels that meet at a corner are one piece

Instance = tuple[int, np.ndarray]  # class id, (H, W) bool


def recognises(path: Path) -> bool:
    return path.is_dir() and any(True for _ in _folders(path, MasksOptions().mask_suffix))


def read(path: Path, *, patient_pattern: str | None = None, options: MasksOptions) -> Dataset:
    """Reads a folder of images and masks; an image without a mask has no instance.

    Raises:
        InputError: lists all problems found with images and masks.
    """
    folders = list(_folders(path, options.mask_suffix)) if path.is_dir() else []
    if not folders:
        raise InputError(
            f"{path}: expected folders images and masks, or images with masks named *{options.mask_suffix}.png"
        )
    problems, warnings = Problems(path), []
    rows, owners, class_ids, runs, wheres, bare = [], [], [], [], [], 0
    for images, masks in folders:
        for image, files in _pair(images, masks, options.mask_suffix, path, problems):
            name = image.relative_to(path).as_posix()
            row = read_row(name, image, name, problems)
            if row is None:
                continue
            bare += not files
            for file in files:
                where = file.relative_to(path).as_posix()
                try:
                    instances = _instances(file, where, row["height"], row["width"], len(files) > 1, options)
                except InputError as error:
                    problems.add_passable(str(error), image)
                    continue
                for class_id, mask in instances:
                    wheres.append(where)
                    owners.append(len(rows))
                    class_ids.append(class_id)
                    runs.append(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"])
            rows.append(row)
    if bare:
        warnings.append(f"{bare} of {len(rows)} images have no mask and count as images without instances")
    in_files, names = ([row[key] for row in rows] for key in ("patient_id", "file_name"))
    patients, found = name_patients([None] * len(rows), names, patient_pattern, problems, in_files=in_files)
    if not rows:
        problems.add("no image; expected at least one that can be read")
    problems.raise_if_impassable()
    rows = [with_patient(row, patient) for row, patient in zip(rows, patients, strict=True)]
    return assemble(options.class_names, rows, owners, class_ids, runs, wheres, [*warnings, *found], problems)


def _folders(path: Path, suffix: str) -> Iterator[tuple[Path, Path]]:
    """Each folder of images with that of its masks, which may be the same."""
    below = sorted(each for each in path.iterdir() if _is_folder(each) and each.name not in ("images", "masks"))
    for folder in [path, *below]:
        if (folder / "images").is_dir() and (folder / "masks").is_dir():
            yield folder / "images", folder / "masks"
        elif any(_is_mask_name(file.stem, suffix) for file in _files(folder, _MASK_SUFFIXES)):
            yield folder, folder


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not is_system_name(path.name)


def _is_mask_name(stem: str, suffix: str) -> bool:
    return re.search(rf"{re.escape(suffix)}(_\d+)?$", stem) is not None


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not is_system_name(entry.name)]
    return [folder / name for name in sorted(names) if name.lower().endswith(tuple(suffixes))]


def _pair(images: Path, masks: Path, suffix: str, root: Path, problems: Problems) -> Iterator[tuple[Path, list[Path]]]:
    """Each image with its masks; a mask without an image is a problem."""
    pictures = _files(images, IMAGE_SUFFIXES)
    drawn = _files(masks, _MASK_SUFFIXES)
    if images == masks:
        pictures = [file for file in pictures if not _is_mask_name(file.stem, suffix)]
        drawn = [file for file in drawn if _is_mask_name(file.stem, suffix)]
    by_stem: dict[str, Path] = {}
    for picture in pictures:
        if picture.stem in by_stem:
            problems.add(f"{picture.relative_to(root)}: another image is called {picture.stem}; expected one")
        by_stem[picture.stem] = picture
    owned: dict[Path, list[Path]] = {picture: [] for picture in pictures}
    if images != masks:
        for folder in sorted(each for each in masks.iterdir() if _is_folder(each) and each.name in by_stem):
            owned[by_stem[folder.name]] += _files(folder, _MASK_SUFFIXES)
    for file in _files(masks, (".jpg", ".jpeg")) if images != masks else ():
        told = f"{file.relative_to(root)}: JPEG changes the values of a mask; expected PNG, TIFF or NPY"
        problems.add_passable(told, _owner(file, suffix, by_stem))
    for file in drawn:
        owner = by_stem[pictures[0].stem] if len(pictures) == 1 and images != masks else _owner(file, suffix, by_stem)
        if owner is None:
            told = f"{file.relative_to(root)}: no image of that name in {images.relative_to(root).as_posix()}"
            problems.add_passable(told)
        else:
            owned[owner].append(file)
    yield from owned.items()


def _owner(file: Path, suffix: str, by_stem: dict[str, Path]) -> Path | None:
    for stem in (file.stem, re.sub(r"_\d+$", "", file.stem)):
        for name in (stem, stem.removesuffix(suffix)):
            if name in by_stem:
                return by_stem[name]
    return None


def _instances(
    file: Path, where: str, height: int, width: int, one_each: bool, options: MasksOptions
) -> Iterator[Instance]:
    """The instances in a mask file, cut out one by one.

    Args:
        one_each: the file is one of several of an image, which hold an instance each.

    Raises:
        InputError: at once, and not when the first is asked for: it is no mask of such an image.
    """
    values = _load(file)
    if values.shape != (height, width):
        raise InputError(f"{where}: has {values.shape[1]}×{values.shape[0]} pixels; its image has {width}×{height}")
    names = options.class_names
    if len(names) == 1 and options.instances != "values":
        values = values > 0
    present = [int(value) for value in np.unique(values) if value > 0]
    if options.instances != "values" and present and present[-1] > len(names):
        raise InputError(f"{where}: holds the value {present[-1]}; class_names has {len(names)}: {', '.join(names)}")
    if one_each and len(present) > 1:
        raise InputError(
            f"{where}: holds the values {present[:5]}; expected one instance, as its image has several masks"
        )
    whole = one_each or options.instances != "pieces"
    pieces = {} if whole else {value: label(values == value, _TOUCHING) for value in present}
    count = sum(found for _, found in pieces.values()) if pieces else len(present)
    if count > _MOST_INSTANCES:
        raise InputError(f"{where}: holds {count} instances; expected a drawn mask with at most {_MOST_INSTANCES}")
    if whole:
        return ((1 if options.instances == "values" else value, values == value) for value in present)
    return _cut(pieces)


def _cut(pieces: Mapping[int, tuple[np.ndarray, int]]) -> Iterator[Instance]:
    """Each piece of each class on a plane of its own."""
    for class_id, (numbers, _) in pieces.items():
        for number, place in enumerate(find_objects(numbers), start=1):
            piece = np.zeros(numbers.shape, bool)
            piece[place] = numbers[place] == number
            yield class_id, piece


def _load(file: Path) -> np.ndarray:
    """(H, W) whole numbers of a mask file. Raises `InputError` where it holds anything else."""
    try:
        if file.suffix.lower() == ".npy":
            values = np.lib.format.open_memmap(file, mode="r")  # which is no longer than its header says
        elif file.suffix.lower() == ".png":
            with open_picture(file) as image:
                # A palette's numbers are the values; its colours only show them.
                values = np.array(image) if image.mode in ("P", "1", "L") or image.mode[0] == "I" else read_image(file)
        else:
            values = read_image(file)
    except InputError:
        raise
    except (*UNREADABLE, TokenError) as error:  # NumPy takes the header of an NPY apart as Python
        raise InputError(f"{file}: expected a readable mask ({error})") from error
    if values.dtype.kind not in "buif":
        raise InputError(f"{file}: holds {values.dtype}; expected whole numbers")
    if values.ndim == 3 and (values[..., :1] == values).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(f"{file}: has the shape {values.shape}; expected grey values of (H, W)")
    if values.dtype != bool and not (np.mod(values, 1) == 0).all():
        raise InputError(f"{file}: expected whole numbers")
    if (values < 0).any():
        raise InputError(f"{file}: holds {values.min()}; expected numbers from 0, the background")
    return values
