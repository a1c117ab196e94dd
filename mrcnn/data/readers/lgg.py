"""Read the LGG MRI segmentation data set of Kaggle: folders of slices with one mask file per slice.

Each patient has a folder with `<name>_<k>.tif` and `<name>_<k>_mask.tif` for slice k, at any depth below the root.
Tables such as data.csv are not read. Every slice is an image, and every connected component of its mask is an instance.
The data set has no pixel size.
"""

from __future__ import annotations

import filecmp
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.io.label_images import nonzero_values, read_label_image
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.readers.image_files import compose_unicode, files_below, read_record_fields
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.readers.records import name_patients
from mrcnn.data.readers.segmentation import connected_components
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError

CLASS_NAMES = ("tumor",)
LABELS = ("no_tumor", "tumor")
"""Image-level classes of slices with an empty and a nonempty mask."""
MIN_AREA = 10
_IMAGE = re.compile(r".*?(\d+)\.tiff?", re.IGNORECASE)
_MASK = "_mask"


def matches(path: Path) -> bool:
    """Check for masks of slices whose names begin with the name of their folder, which has a number."""
    return path.is_dir() and any(
        re.search(r"\d", file.parent.name)
        and re.fullmatch(rf"{re.escape(file.parent.name)}_\d+{_MASK}\.tiff?", file.name, re.IGNORECASE)
        for file in files_below(path.resolve(), f"**/*_[0-9]*{_MASK}.tif*")
    )


def read(path: Path, *, patient_pattern: str | None = None, min_area: int = MIN_AREA) -> Dataset:
    """Read all patients below a folder; the pattern is searched in the folder name of a slice, else the patient.

    Raises:
        InputError: files are invalid; the message lists all fatal and other problems.
    """
    problems = Problems(path)
    slices, copied = _find_slices(path, problems)
    problems.raise_if_fatal()
    folders = [image.parent.resolve().name for image, _, _ in slices]
    stated = [None if patient_pattern else name for name in folders]
    patients, warnings = name_patients(stated, folders, patient_pattern, problems)
    warnings += name_warnings("folders are copies of another of their name and are left out", copied)
    records, runs, lost, covered = [], [], 0, 0
    for (image, mask, index), volume, patient in zip(slices, folders, patients, strict=True):
        name = image.relative_to(path).as_posix()
        row = read_record_fields(name, image, name, problems)
        region = _read_mask(mask, row, problems) if row else None
        if row is None or region is None:
            continue
        class_ids, boxes, areas, instances, missed = connected_components([region], min_area)
        row |= {"patient_id": patient, "label": LABELS[int(region.any())], "place": SlicePosition(volume, index)}
        records.append(Record(**row, class_ids=class_ids, boxes=boxes, areas=areas))
        runs.append(instances)
        lost, covered = lost + missed, covered + missed + int(areas.sum())
    files = defaultdict(list)
    for record in records:
        files[record.path.parent].append(record.path)
    ordered = {folder: tuple(paths) for folder, paths in files.items()}
    records = [replace(record, slice_files=ordered[record.path.parent]) for record in records]
    if not records:
        problems.add("no slice can be read; expected at least one")
    problems.raise_if_fatal()
    if lost:
        warnings.append(
            f"pieces of fewer than {min_area} pixels (min_area) are left out: {lost / covered:.2%} of the marked ones"
        )
    return Dataset(CLASS_NAMES, records, runs, warnings, problems)


def _find_slices(root: Path, problems: Problems) -> tuple[list[tuple[Path, Path, int]], list[str]]:
    """Find image, mask and number of every slice, sorted by folder and number, and folders that are copies.

    Kaggle's archive holds `kaggle_3m` twice.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; expected one with a folder a patient of *_1.tif and *_1_mask.tif")
    files = sorted(files_below(root, "**/*.tif*"))
    masks = {compose_unicode(str(path)): path for path in files if path.stem.endswith(_MASK)}
    slices = []
    for path in files:
        if compose_unicode(str(path)) in masks:
            continue
        number, mask = _IMAGE.fullmatch(path.name), path.with_name(f"{path.stem}{_MASK}{path.suffix}")
        if number is None:
            problems.add_skippable(f"{path.relative_to(root)}: expected a name that ends in the number of the slice")
        elif compose_unicode(str(mask)) not in masks:
            problems.add_skippable(f"{path.relative_to(root)}: has no mask; expected {mask.name} beside it")
        else:
            slices.append((path, masks[compose_unicode(str(mask))], int(number[1])))
    if not files:
        raise InputError(f"{root}: holds no slices; expected files such as <patient>/<patient>_1.tif and _1_mask.tif")
    folders = sorted({path.parent for path, _, _ in slices}, key=lambda folder: (len(folder.parts), folder))
    first: dict[str, Path] = {}
    copies = {folder for folder in folders if _is_copy(folder, first.setdefault(folder.name, folder))}
    slices = [each for each in slices if each[0].parent not in copies]
    for folder, count in Counter(folder.name for folder in {path.parent for path, _, _ in slices}).items():
        if count > 1:
            problems.add(f"{folder}: {count} folders have this name; expected each once")
    for (folder, number), count in Counter((path.parent.name, number) for path, _, number in slices).items():
        if count > 1:
            problems.add(f"{folder}: {count} images of slice {number}; expected one")
    slices.sort(key=lambda found: (found[0].parent, found[2]))
    return slices, [folder.relative_to(root).as_posix() for folder in folders if folder in copies]


def _is_copy(folder: Path, other: Path) -> bool:
    """Check whether another folder has the same files."""
    names = sorted(path.name for path in files_below(folder, "*"))
    return (
        folder != other
        and names == sorted(path.name for path in files_below(other, "*"))
        and all(filecmp.cmp(folder / name, other / name, shallow=False) for name in names)
    )


def _read_mask(path: Path, row: Mapping[str, Any], problems: Problems) -> np.ndarray | None:
    """Read a mask (H, W) bool; None, with a problem, if it is invalid."""
    try:
        labels = read_label_image(path)
        values = align_to_image(labels, row, str(path))
    except InputError as error:
        problems.add_skippable(str(error), row["path"])
        return None
    if labels.from_alpha or len(present := nonzero_values(values)) > 1:
        found = "a mask in its alpha channel alone" if labels.from_alpha else f"{len(present) + 1} values"
        problems.add_skippable(f"{path}: holds {found}; expected 0 and one other", row["path"])
        return None
    return values > 0
