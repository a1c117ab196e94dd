"""Read mask folders: images, each with one or several masks as PNG, TIFF, BMP, GIF or NPY, or as JPEG of one class.

`mrcnn.data.readers.mask_folders` pairs them by the names of files and folders. The class of an instance is its value,
or its folder where the folders of the images (`benign/`, `malignant/`) or masks (`lung masks/`) are classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.io.label_images import nonzero_values, read_label_image
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.reader_options import MasksOptions
from mrcnn.data.readers.image_files import read_record_fields
from mrcnn.data.readers.mask_checks import Instance, MaskChecks, unknown_value
from mrcnn.data.readers.mask_classes import (
    UNNAMED,
    classes_of_folders,
    find_classes,
    folder_warnings,
    kinds_in_names,
)
from mrcnn.data.readers.mask_folders import MaskPairs
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.readers.records import add_patient, assemble_dataset, name_patients
from mrcnn.data.readers.segmentation import split_components
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop, encode_crop

_MOST_INSTANCES = 10_000  # per mask; more indicate noise of an image that is not a mask


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
    folders, class_names = find_classes(pairs, options)
    by_value = options.model_copy(update={"class_names": UNNAMED if folders else class_names})
    checks = MaskChecks(by_value)
    rows, owners, class_ids, runs, wheres, kinds, bare = [], [], [], [], [], [], []
    drawn_on = {}
    for image, files in pairs.owned.items():
        name = image.relative_to(path).as_posix()
        row = read_record_fields(name, image, name, problems)
        if row is None:
            continue
        bare += [] if files else [image]
        files_of_class = Counter(folders.get(file) for file in files)
        for file in files:
            where = file.relative_to(path).as_posix()
            drawn_on[where] = image
            try:
                labels = checks.scale(read_label_image(file, binary=checks.is_binary), row, where)
                values = checks.clean(align_to_image(labels, row, where), where, labels.from_alpha)
                instances = _instances(values, where, files_of_class[folders.get(file)] > 1, by_value)
            except InputError as error:
                problems.add_skippable(str(error), image)
                continue
            for class_id, crop in checks.record_instances(instances, values.shape, where):
                wheres.append(where)
                owners.append(len(rows))
                class_ids.append(class_id)
                kinds.append(folders.get(file) or folders.get(image))
                runs.append(encode_crop(crop, *values.shape))
        rows.append(row | {"label": folders.get(image)})
    for where, problem in checks.rejected_files().items():
        problems.add_skippable(problem, drawn_on[where])
    if void := checks.void_files():
        kept = [index for index, where in enumerate(wheres) if where not in void]
        owners, class_ids, runs, wheres, kinds = (
            [each[index] for index in kept] for each in (owners, class_ids, runs, wheres, kinds)
        )
    warnings = [*pairs.notes(), *pairs.left_out, *checks.warnings()]
    if folders:
        class_names, class_ids = classes_of_folders(class_names, kinds)
        warnings += folder_warnings(
            pairs, folders, class_names, set(drawn_on[where] for where in wheres), bare, problems
        )
    elif class_names == UNNAMED:
        warnings += kinds_in_names(pairs)
    text = "files beside images and masks are none that can be read and are passed over"
    warnings += name_warnings(text, pairs.passed)
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


def _instances(values: np.ndarray, where: str, one_each: bool, options: MasksOptions) -> Iterator[Instance]:
    """Return the instances of a mask with values (H, W); `one_each`: it is one of several, with an instance each.

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
    pieces = {} if whole else {value: split_components(values == value) for value in present}
    count = len(present) if whole else sum(found for found, _ in pieces.values())
    if count > _MOST_INSTANCES:
        raise InputError(f"{where}: holds {count} instances; expected a drawn mask with at most {_MOST_INSTANCES}")
    if whole:
        return ((1 if options.instances == "values" else value, Crop(0, 0, values == value)) for value in present)
    return ((class_id, crop) for class_id, (_, crops) in pieces.items() for crop in crops)
