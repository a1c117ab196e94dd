"""Folders of slices with a mask beside each, as the LGG segmentation set on Kaggle has them.

A folder a patient, with `<anything>_<k>.tif` and `<anything>_<k>_mask.tif` for slice k; the folders may lie anywhere
below that of the set. Tables beside them, such as data.csv, are not needed and not read. Every slice is an image, and
an instance is a connected piece of its mask. The set states no size of a pixel.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.io.file_types import files_below
from mrcnn.data.io.label_images import read_label_image, values_above_zero
from mrcnn.data.readers.image_files import composed, read_row
from mrcnn.data.readers.orientation import on_shown
from mrcnn.data.readers.patients import name_patients
from mrcnn.data.readers.problems import Problems
from mrcnn.data.readers.segmentation import connected_components
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError

CLASS_NAMES = ("tumor",)
LABELS = ("no_tumor", "tumor")
"""Of a whole slice, by whether its mask has a pixel."""
MIN_AREA = 10
_IMAGE = re.compile(r".*?(\d+)\.tiff?", re.IGNORECASE)
_MASK = "_mask"


def recognises(path: Path) -> bool:
    """Whether masks of slices lie in folders whose name they begin with, as those of patients do."""
    return path.is_dir() and any(
        re.fullmatch(rf"{re.escape(file.parent.name)}_\d+{_MASK}\.tiff?", file.name, re.IGNORECASE)
        for file in files_below(path.resolve(), f"**/*_[0-9]*{_MASK}.tif*")
    )


def read(path: Path, *, patient_pattern: str | None = None, min_area: int = MIN_AREA) -> Dataset:
    """Reads all patients below a folder.

    Args:
        patient_pattern: searched in the name of the folder that a slice lies in; without it that name is the patient.
        min_area: pixels; smaller pieces of a mask are no instances.

    Raises:
        InputError: lists what is wrong with the files.
    """
    problems = Problems(path)
    slices = _find_slices(path, problems)
    problems.raise_if_impassable()
    folders = [image.parent.resolve().name for image, _, _ in slices]
    stated = [None if patient_pattern else name for name in folders]
    patients, warnings = name_patients(stated, folders, patient_pattern, problems)
    records, runs, lost, covered = [], [], 0, 0
    for (image, mask, index), volume, patient in zip(slices, folders, patients, strict=True):
        name = image.relative_to(path).as_posix()
        row = read_row(name, image, name, problems)
        region = _read_mask(mask, row, problems) if row else None
        if region is None:
            continue
        class_ids, boxes, areas, instances, missed = connected_components([region], min_area)
        row |= {"patient_id": patient, "label": LABELS[int(region.any())], "place": SlicePosition(volume, index)}
        records.append(Record(**row, class_ids=class_ids, boxes=boxes, areas=areas))
        runs.append(instances)
        lost, covered = lost + missed, covered + missed + int(areas.sum())
    if not records:
        problems.add("no slice can be read; expected at least one")
    problems.raise_if_impassable()
    if lost:
        warnings.append(
            f"pieces of fewer than {min_area} pixels (min_area) are left out: {lost / covered:.2%} of the marked ones"
        )
    return Dataset(CLASS_NAMES, records, runs, warnings, problems)


def _find_slices(root: Path, problems: Problems) -> list[tuple[Path, Path, int]]:
    """Image, mask and number of every slice, by folder and number."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with a folder a patient of *_1.tif and *_1_mask.tif")
    files = sorted(files_below(root, "**/*.tif*"))
    masks = {composed(str(path)): path for path in files if path.stem.endswith(_MASK)}
    slices = []
    for path in files:
        if composed(str(path)) in masks:
            continue
        number, mask = _IMAGE.fullmatch(path.name), path.with_name(f"{path.stem}{_MASK}{path.suffix}")
        if number is None:
            problems.add_passable(f"{path.relative_to(root)}: expected a name that ends in the number of the slice")
        elif composed(str(mask)) not in masks:
            problems.add_passable(f"{path.relative_to(root)}: has no mask; expected {mask.name} beside it")
        else:
            slices.append((path, masks[composed(str(mask))], int(number[1])))
    if not files:
        raise InputError(f"{root}: holds no slices; expected files such as <patient>/<patient>_1.tif and _1_mask.tif")
    for folder, count in Counter(folder.name for folder in {path.parent for path, _, _ in slices}).items():
        if count > 1:
            problems.add(f"{folder}: {count} folders have this name; expected each once")
    for (folder, number), count in Counter((path.parent.name, number) for path, _, number in slices).items():
        if count > 1:
            problems.add(f"{folder}: {count} images of slice {number}; expected one")
    return sorted(slices, key=lambda found: (found[0].parent, found[2]))


def _read_mask(path: Path, row: Mapping[str, Any], problems: Problems) -> np.ndarray | None:
    """(H, W) bool; None where the mask is of no use, which goes to `problems`."""
    try:
        labels = read_label_image(path)
        values = on_shown(labels, row, str(path))
    except InputError as error:
        problems.add_passable(str(error), row["path"])
        return None
    if labels.from_alpha or len(present := values_above_zero(values)) > 1:
        found = "a mask in its alpha channel alone" if labels.from_alpha else f"{len(present) + 1} values"
        problems.add_passable(f"{path}: holds {found}; expected 0 and one other", row["path"])
        return None
    return values > 0
