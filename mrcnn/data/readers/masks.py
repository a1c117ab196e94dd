"""Read mask folders: images, each with one or several masks of the same size as PNG, TIFF, BMP, GIF or NPY.

The name of a mask begins with the name of its image: the masks of `a.png` are `a.png`, `a_mask.png`, one file per
instance `a_0.png`, `a_1.png`, …, or all files in a folder `a`. Images and masks are in folders `images` and `masks` of
the data set or of any direct subfolder (a split, or one image), or in one folder, distinguished by the suffix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects, label

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.label_images import LABEL_SUFFIXES, LOSSY, LOSSY_SUFFIXES, nonzero_values, read_label_image
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, compose_unicode, is_system_name, read_record_fields
from mrcnn.data.readers.mask_checks import Instance, MaskChecks, unknown_value
from mrcnn.data.readers.options import MasksOptions
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.errors import InputError

_MOST_INSTANCES = 10_000  # per mask; more indicate noise of an image that is not a mask
_TOUCHING = np.ones((3, 3), int)  # 8-connectivity


def matches(path: Path) -> bool:
    """Check for folders of images and masks."""
    return path.is_dir() and any(True for _ in _folders(path, MasksOptions().mask_suffix))


def read(path: Path, *, patient_pattern: str | None = None, options: MasksOptions) -> Dataset:
    """Read a folder of images and masks; an image without a mask has no instances.

    Raises:
        InputError: images or masks are invalid; the message lists all problems.
    """
    folders = list(_folders(path, options.mask_suffix)) if path.is_dir() else []
    if not folders:
        raise InputError(
            f"{path}: expected folders images and masks, or images with masks named *{options.mask_suffix}.png"
        )
    problems, warnings = Problems(path), []
    checks = MaskChecks(options)
    rows, owners, class_ids, runs, wheres, bare = [], [], [], [], [], []
    drawn_on, passed = {}, []
    for images, masks in folders:
        for image, files in _pair(images, masks, options.mask_suffix, path, problems, passed):
            name = image.relative_to(path).as_posix()
            row = read_record_fields(name, image, name, problems)
            if row is None:
                continue
            bare += [] if files else [image]
            for file in files:
                where = file.relative_to(path).as_posix()
                drawn_on[where] = image
                try:
                    labels = read_label_image(file)
                    values = checks.clean(align_to_image(labels, row, where), where, labels.from_alpha)
                    instances = _instances(values, where, len(files) > 1, options)
                except InputError as error:
                    problems.add_skippable(str(error), image)
                    continue
                for class_id, mask in checks.record_instances(instances, where):
                    wheres.append(where)
                    owners.append(len(rows))
                    class_ids.append(class_id)
                    runs.append(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"])
            rows.append(row)
    for where, problem in checks.rejected_files().items():
        problems.add_skippable(problem, drawn_on[where])
    if void := checks.void_files():
        kept = [index for index, where in enumerate(wheres) if where not in void]
        owners, class_ids, runs, wheres = (
            [each[index] for index in kept] for each in (owners, class_ids, runs, wheres)
        )
    warnings += checks.warnings()
    if passed:
        warnings.append(
            summarize_names("files beside images and masks are none that can be read and are passed over", passed)
        )
    spoilt = {fault.image for fault in problems.faults}
    if bare := [image for image in bare if image not in spoilt]:
        warnings.append(f"{len(bare)} of {len(rows)} images have no mask and count as images without instances")
    in_files, names = ([row[key] for row in rows] for key in ("patient_id", "file_name"))
    patients, found = name_patients([None] * len(rows), names, patient_pattern, problems, in_files=in_files)
    if not rows:
        problems.add("no image; expected at least one that can be read")
    problems.raise_if_fatal()
    rows = [add_patient(row, patient) for row, patient in zip(rows, patients, strict=True)]
    return assemble_dataset(options.class_names, rows, owners, class_ids, runs, wheres, [*warnings, *found], problems)


def _folders(path: Path, suffix: str) -> Iterator[tuple[Path, Path]]:
    """Yield each folder of images with the folder of its masks, which may be the same."""
    below = sorted(each for each in path.iterdir() if _is_folder(each) and each.name not in ("images", "masks"))
    for folder in [path, *below]:
        if (folder / "images").is_dir() and (folder / "masks").is_dir():
            yield folder / "images", folder / "masks"
        elif any(_is_mask_name(file.stem, suffix) for file in _files(folder, (*LABEL_SUFFIXES, *LOSSY_SUFFIXES))):
            yield folder, folder


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not is_system_name(path.name)


def _is_mask_name(stem: str, suffix: str) -> bool:
    return re.search(rf"{re.escape(suffix)}(_\d+)?$", stem) is not None


def _files(folder: Path, suffixes: Sequence[str] = ("",)) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and not is_system_name(entry.name)]
    return [folder / name for name in sorted(names) if name.lower().endswith(tuple(suffixes))]


def _pair(
    images: Path, masks: Path, suffix: str, root: Path, problems: Problems, passed: list[str]
) -> Iterator[tuple[Path, list[Path]]]:
    """Yield each image with its masks; masks without an image become problems, other files are added to `passed`."""
    pictures, drawn = _files(images, IMAGE_SUFFIXES), _files(masks)
    if images != masks:
        others = (file for file in _files(images) if file not in pictures)
        passed += [file.relative_to(root).as_posix() for file in others]
    if images == masks:
        pictures = [file for file in pictures if not _is_mask_name(file.stem, suffix)]
        drawn = [file for file in drawn if _is_mask_name(file.name.partition(".")[0], suffix)]
    by_stem: dict[str, Path] = {}
    for picture in pictures:
        if compose_unicode(picture.stem) in by_stem:
            problems.add(f"{picture.relative_to(root)}: another image is called {picture.stem}; expected one")
        by_stem[compose_unicode(picture.stem)] = picture
    owned: dict[Path, list[Path]] = {picture: [] for picture in pictures}
    if images != masks:
        for folder in sorted(each for each in masks.iterdir() if _is_folder(each)):
            if compose_unicode(folder.name) in by_stem:
                drawn += _files(folder)
            else:
                passed.append(f"{folder.relative_to(root).as_posix()}/")
    orphans = []
    for file in drawn:
        where, lone = file.relative_to(root).as_posix(), len(pictures) == 1 and images != masks
        within = by_stem.get(compose_unicode(file.parent.name)) if file.parent != masks else None
        owner = within or _owner(file, suffix, by_stem)
        if file.suffix.lower() in LABEL_SUFFIXES:
            if owner or lone:
                owned[owner or pictures[0]].append(file)
            else:
                orphans.append(where)
        elif file.suffix.lower() in LOSSY_SUFFIXES:
            problems.add_skippable(f"{where}: {LOSSY}", owner)
        elif owner:
            problems.add_skippable(f"{where}: no mask of this kind is read; expected PNG, TIFF, BMP, GIF or NPY", owner)
        else:
            passed.append(where)
    _add_orphans(orphans, images.relative_to(root).as_posix(), owned, problems)
    yield from owned.items()


def _add_orphans(orphans: Sequence[str], images: str, owned: Mapping[Path, Sequence[Path]], problems: Problems) -> None:
    """Report masks without an image as problems of the image with a similar name, or else of all without a mask."""
    unsure = []
    for where in orphans:
        stem = compose_unicode(Path(where).stem)
        begins = (each for each in owned if re.match(rf"{re.escape(compose_unicode(each.stem))}(?![0-9A-Za-z])", stem))
        meant = max(begins, key=lambda picture: len(picture.stem), default=None)
        hint = (
            f"; if it is that of {meant.name}, set mask_suffix to what follows the name of the image" if meant else ""
        )
        problems.add_skippable(f"{where}: no image of that name in {images}{hint}", meant)
        unsure += [] if meant else [where]
    for picture in [each for each, files in owned.items() if unsure and not files]:
        problems.add_skippable(f"{images}/{picture.name}: has no mask, yet {unsure[0]} has no image", picture)


def _owner(file: Path, suffix: str, by_stem: Mapping[str, Path]) -> Path | None:
    stem = compose_unicode(file.stem)
    for each in (stem, re.sub(r"_\d+$", "", stem), compose_unicode(file.name.partition(".")[0])):
        for name in (each, each.removesuffix(suffix)):
            if name in by_stem:
                return by_stem[name]
    return None


def _instances(values: np.ndarray, where: str, one_each: bool, options: MasksOptions) -> Iterator[Instance]:
    """Return the instances of a mask one by one.

    Args:
        one_each: whether the file is one of several masks of an image with one instance each.

    Raises:
        InputError: the mask is invalid; raised before the first instance.
    """
    names = options.class_names
    if len(names) == 1 and options.instances != "values":
        values = values > 0
    present = nonzero_values(values)
    if options.instances != "values" and present and present[-1] > len(names):
        raise InputError(unknown_value(where, present[-1], names))
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
    """Yield each connected component of each class as mask of the full size."""
    for class_id, (numbers, _) in pieces.items():
        for number, place in enumerate(find_objects(numbers), start=1):
            piece = np.zeros(numbers.shape, bool)
            piece[place] = numbers[place] == number
            yield class_id, piece
