"""Read mask folders: images, each with one or several masks of the same size as PNG, TIFF, BMP, GIF or NPY.

`mrcnn.data.readers.mask_folders` pairs them by the names of files and folders. The class of an instance is its value,
or its folder where the folders of the set are classes (`benign/`, `malignant/`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects, label

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.label_images import nonzero_values, read_label_image
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.reader_options import MasksOptions
from mrcnn.data.readers.image_files import read_record_fields
from mrcnn.data.readers.mask_checks import Instance, MaskChecks, unknown_value
from mrcnn.data.readers.mask_folders import MaskPairs, class_folders
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.errors import InputError

_MOST_INSTANCES = 10_000  # per mask; more indicate noise of an image that is not a mask
_TOUCHING = np.ones((3, 3), int)  # 8-connectivity
_UNNAMED = MasksOptions.model_fields["class_names"].default


def matches(path: Path) -> bool:
    """Check for images with masks."""
    return path.is_dir() and MaskPairs(path).matches()


def read(path: Path, *, patient_pattern: str | None = None, options: MasksOptions) -> Dataset:
    """Read a folder of images and masks; an image without a mask has no instances.

    Raises:
        InputError: images or masks are invalid; the message lists all problems.
    """
    problems = Problems(path)
    pairs = MaskPairs(path, options.mask_suffix)
    if path.is_dir():
        pairs.find(problems)
    if not pairs.owned:
        problems.raise_if_any()
        raise InputError(
            f"{path}: expected folders images and masks, or images with masks such as "
            f"a{options.mask_suffix or '_mask'}.png of a.png"
        )
    folders, class_names = _class_folders(pairs, options)
    by_value = options.model_copy(update={"class_names": _UNNAMED}) if folders else options
    checks = MaskChecks(by_value)
    rows, owners, class_ids, runs, wheres, kinds, bare = [], [], [], [], [], [], []
    drawn_on = {}
    for image, files in pairs.owned.items():
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
                instances = _instances(values, where, len(files) > 1, by_value)
            except InputError as error:
                problems.add_skippable(str(error), image)
                continue
            for class_id, mask in checks.record_instances(instances, where):
                wheres.append(where)
                owners.append(len(rows))
                class_ids.append(class_id)
                kinds.append(folders.get(file) or folders.get(image))
                runs.append(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"])
        rows.append(row | {"label": folders.get(image)})
    for where, problem in checks.rejected_files().items():
        problems.add_skippable(problem, drawn_on[where])
    if void := checks.void_files():
        kept = [index for index, where in enumerate(wheres) if where not in void]
        owners, class_ids, runs, wheres, kinds = (
            [each[index] for index in kept] for each in (owners, class_ids, runs, wheres, kinds)
        )
    warnings = [*pairs.notes(), *checks.warnings()]
    if folders:
        class_names, class_ids = _classes_of_folders(class_names, kinds)
        warnings += _folder_warnings(
            pairs, folders, class_names, set(drawn_on[where] for where in wheres), bare, problems
        )
    if pairs.passed:
        warnings.append(
            summarize_names("files beside images and masks are none that can be read and are passed over", pairs.passed)
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
    return assemble_dataset(class_names, rows, owners, class_ids, runs, wheres, [*warnings, *found], problems)


def _class_folders(pairs: MaskPairs, options: MasksOptions) -> tuple[dict[Path, str], tuple[str, ...]]:
    """Return the class of each image or mask from its folder, and the stated classes.

    Raises:
        InputError: `class_names` are stated and a folder with masks is not among them.
    """
    names = () if options.class_names == _UNNAMED else options.class_names
    if options.class_folders is False or (options.class_folders is None and options.instances == "values"):
        return {}, options.class_names
    folders = class_folders(pairs.files, pairs.owned, options.class_folders)
    if options.class_folders and not folders:
        folders = class_folders(pairs.files, [mask for masks in pairs.owned.values() for mask in masks], True)
    stated = {name.casefold(): name for name in names}
    masked = {folders[image] for image, masks in pairs.owned.items() if masks and image in folders}
    if names and (unknown := sorted(name for name in masked if name.casefold() not in stated)):
        if options.class_folders is None:
            return {}, options.class_names
        raise InputError(f"class_names: {', '.join(names)}; expected the folder {unknown[0]} among them")
    return {path: stated.get(name.casefold(), name) for path, name in folders.items()}, names or options.class_names


def _classes_of_folders(stated: tuple[str, ...], kinds: list[str | None]) -> tuple[tuple[str, ...], list[int]]:
    """Return class names, and the class id of each instance from the name of its folder."""
    names = tuple(sorted({kind or _UNNAMED[0] for kind in kinds})) or _UNNAMED if stated == _UNNAMED else stated
    return names, [names.index(kind or names[0]) + 1 for kind in kinds]


def _folder_warnings(
    pairs: MaskPairs,
    folders: Mapping[Path, str],
    class_names: tuple[str, ...],
    drawn: set[Path],
    bare: list[Path],
    problems: Problems,
) -> list[str]:
    """Return warnings about classes by folder; an image without a mask among masked ones of its class is a problem."""
    counts = Counter(folders[image] for image in pairs.owned if image in folders)
    masked = {folders[image] for image in drawn if image in folders}
    healthy = [f"{name} ({counts[name]} images)" for name in counts if name not in class_names]
    without = f"; without instances: {', '.join(healthy)}" if healthy else ""
    warnings = [
        f"classes by folder: {', '.join(f'{name} ({counts[name]} images)' for name in class_names)}{without}; set "
        "masks.class_folders=false if the folders are no classes"
    ]
    for image in bare:
        if folders.get(image) in masked:
            problems.add_skippable(
                f"{image.relative_to(pairs.root).as_posix()}: has no mask, and other images of {folders[image]} have "
                "one; expected a mask, which is all 0 where nothing is to be seen",
                image,
            )
    empty = [
        image.relative_to(pairs.root).as_posix()
        for image, masks in pairs.owned.items()
        if masks and image not in drawn and folders.get(image) in masked
    ]
    return warnings + (
        [summarize_names("images have an empty mask though their folder is a class of instances", empty)]
        if empty
        else []
    )


def _instances(values: np.ndarray, where: str, one_each: bool, options: MasksOptions) -> Iterator[Instance]:
    """Return the instances of a mask one by one.

    Args:
        values: (H, W) values of the mask.
        where: name of the mask in messages.
        one_each: whether the file is one of several masks of an image with one instance each.
        options: options of the reader.

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
    pieces: dict[int, Any] = {} if whole else {value: label(values == value, _TOUCHING) for value in present}
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
