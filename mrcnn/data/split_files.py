"""Read splits that a user gives: a JSON object with `train`, `val` and `test`, or nnU-Net's list of folds.

An entry is the name of an image, of a volume or of a patient: a path as in the annotations, a file name with or without
suffix, or an object with `file_name`, as in the `splits.json` of a training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.problems import name_warnings, summarize_names
from mrcnn.data.readers.image_files import compose_unicode, load_json
from mrcnn.data.splits import SPLITS, check_splits
from mrcnn.errors import InputError

_EXPECTED = "expected {train: [names], val: [names], test: [names]}, or a list of folds with train and val"
Parts = dict[str, np.ndarray]


def read_splits(
    path: Path, dataset: Dataset, groups: np.ndarray | None = None, left_out: Iterable[str] = ()
) -> tuple[list[Parts], list[str]]:
    """Read the splits of a data set.

    `groups` (N,) are those of `find_duplicates`. The file may name the images `left_out`, which are invalid and not in
    `dataset`.

    Returns:
        The sorted positions of the images of each split, int64, one dict of `train`, `val` and `test` for each fold;
        and warnings.

    Raises:
        InputError: the file has another form or names images that do not exist, an image is in two splits, or a patient
            or a group of near-duplicates is.
    """
    content = load_json(path)
    folds = content if isinstance(content, list) else [content]
    if not folds or not all(_is_fold(fold) for fold in folds):
        raise InputError(f"{path}: {_EXPECTED}")
    if isinstance(content, dict) and (other := sorted(set(content) - set(SPLITS))):
        raise InputError(f"{path}: holds {', '.join(map(repr, other[:3]))}; {_EXPECTED}")
    names = _Names(dataset, left_out)
    found = []
    for fold in folds:
        found.append({split: names.positions(fold.get(split, ()), f"{path}, {split}") for split in SPLITS})
    names.raise_unknown(path)
    for number, parts in enumerate(found, start=1):
        subject = f"{path}: fold {number}" if len(folds) > 1 else str(path)
        for split in ("train", "val"):
            if not len(parts[split]):
                raise InputError(f"{subject}: has no image in {split}; expected at least one")
        try:
            check_splits(dataset, parts, groups)
        except InputError as error:
            raise InputError(f"{subject}: {error}") from error
    used = np.unique(np.concatenate([positions for parts in found for positions in parts.values()]))
    unused = [dataset.records[index].file_name for index in np.setdiff1d(np.arange(len(dataset)), used)]
    return found, name_warnings(f"images are in no split of {path.name} and are left out", unused)


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, Mapping) and all(isinstance(fold.get(split, []), list) for split in SPLITS)


class _Names:
    """Find images by name, and collect the names that are unknown."""

    def __init__(self, dataset: Dataset, left_out: Iterable[str]) -> None:
        self._unknown: list[str] = []
        self._dataset = dataset
        self._known = {form for name in left_out for form in _forms(name)}
        # An earlier dict has priority: the path, the path without suffix, the volume, the file name, the patient.
        self._levels: list[dict[str, list[int]]] = [defaultdict(list) for _ in range(6)]
        for index, record in enumerate(dataset.records):
            path, stem, name, bare = _forms(record.file_name)
            volume = record.place.volume if record.place else path
            for level, form in zip(self._levels, (path, stem, volume, name, bare, record.patient_id), strict=True):
                level[compose_unicode(form)].append(index)

    def positions(self, entries: Iterable[Any], subject: str) -> np.ndarray:
        """Return the sorted positions of the images that the entries name."""
        found: set[int] = set()
        for entry in entries:
            name = entry.get("file_name") if isinstance(entry, Mapping) else entry
            if isinstance(name, int) and not isinstance(name, bool):
                name = str(name)
            if not isinstance(name, str) or not name:
                raise InputError(f"{subject}: holds {str(entry)[:80]}; expected names of images")
            found.update(self._find(name, subject))
        return np.array(sorted(found), np.int64)

    def _find(self, name: str, subject: str) -> list[int]:
        spelled = compose_unicode(name)
        for number, level in enumerate(self._levels):
            if found := level.get(spelled, []):
                records = [self._dataset.records[index] for index in found]
                if number in (1, 3, 4) and len({record.path for record in records}) > 1:
                    raise InputError(
                        f"{subject}: {name!r} could be {records[0].file_name} or {records[-1].file_name}; expected the "
                        "path as in the data set"
                    )
                return found
        if spelled not in self._known:
            self._unknown.append(name)
        return []

    def raise_unknown(self, path: Path) -> None:
        if self._unknown:
            names = summarize_names("names are of no image, volume or patient of the data set", self._unknown)
            example = self._dataset.records[0].file_name if len(self._dataset) else "none"
            raise InputError(f"{path}: {names}; expected names such as {example}")


def _forms(file_name: str) -> tuple[str, str, str, str]:
    """Return the path, the path without suffixes, the file name and the file name without suffixes."""
    path = PurePosixPath(compose_unicode(file_name))
    bare = path.name.removesuffix(".gz")
    bare = bare.rpartition(".")[0] or bare
    return str(path), str(path.with_name(bare)), path.name, bare
