"""Read BraTS data sets: NIfTI volumes of the brain in several modalities with a label map of the tumor.

A case is a folder with `<case>_flair.nii.gz`, `_t1`, `_t1ce`, `_t2` and `_seg`, or with `-t2f`, `-t1n`, `-t1c`, `-t2w`
and `-seg` since 2023, or `_gtv` for the label map, each also as `.nii` and with suffix `_norm`; several cases may share
a folder. Other files are ignored. Every axial slice with brain is an image with the modalities as channels. Classes are
the three nested tumor regions, or only the whole tumor if the label maps have no others; an instance is a connected
component of a region in the slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import find_objects

from mrcnn.cache_folder import cache_folder
from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.digest import cached_file_digest, cached_files_digest, digest_cache, load_arrays, save_arrays
from mrcnn.data.io.nifti import Nifti, open_nifti
from mrcnn.data.io.volumes import Volume, background_value
from mrcnn.data.problems import Problems
from mrcnn.data.readers.brats_cases import (
    LABEL_CODES,
    LABELS,
    CaseFiles,
    choose_modalities,
    find_cases,
    infer_label_codes,
    label_regions,
    patient_from_case,
)
from mrcnn.data.readers.records import name_patients
from mrcnn.data.readers.segmentation import connected_components
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError

MIN_AREA = 10
_KNOWN = frozenset({0, 1, 2, 3, 4})
_VERSION = 1  # increase when the same files give other cached results
_MOST_THREADS = 2  # each holds a whole volume in memory


@dataclass(frozen=True)
class _Case:
    """Hold a case before its label codes are known.

    Attributes:
        files: one per channel.
        digest: digest of the files.
        shape: (slices, rows, columns).
        spacing_mm: voxel size along these axes.
        brain: (slices,) bool, slices with brain or tumor.
        labels: label map cropped to the tumor, uint8.
        corner: origin of the crop in the volume.
    """

    name: str
    files: tuple[Path, ...]
    digest: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    brain: np.ndarray
    labels: np.ndarray
    corner: tuple[int, int, int]

    def label_slice(self, index: int) -> np.ndarray:
        """Return a slice (rows, columns) of the full label map."""
        whole = np.zeros(self.shape[1:], np.uint8)
        first, top, left = self.corner
        if first <= index < first + len(self.labels):
            rows, columns = self.labels.shape[1:]
            whole[top : top + rows, left : left + columns] = self.labels[index - first]
        return whole


def read(
    path: Path,
    *,
    patient_pattern: str | None = None,
    modalities: Sequence[str] | None = None,
    label_codes: str | None = None,
    min_area: int = MIN_AREA,
) -> Dataset:
    """Read all cases below a folder.

    Args:
        patient_pattern: regular expression searched in the case name; by default each case is a patient, and visits
            such as `BraTS-GLI-00001-000` and `-001` are one.
        modalities: some of flair, t1, t1ce, t2 in the order of the channels; None for those that every case has.
        label_codes: one of `LABEL_CODES`; None to infer it from names and values with `infer_label_codes`.
        min_area: minimum area of an instance in pixels.

    Raises:
        InputError: an option or a file is invalid; the message lists all problems of files.
    """
    if label_codes not in (None, *LABEL_CODES):
        raise InputError(f"label_codes={label_codes!r}: expected one of {', '.join(LABEL_CODES)}")
    problems = Problems(path)
    cases = find_cases(path, problems)
    channels, warnings = choose_modalities(modalities, cases, problems)
    names = [case.name for case in cases]
    stated = [None if patient_pattern else patient_from_case(name) for name in names]
    patients, doubts = name_patients(stated, names, patient_pattern, problems)
    warnings += doubts
    problems.raise_if_fatal()

    # Missing files of the other cases are reported already.
    whole = [position for position, case in enumerate(cases) if {*channels, LABELS} <= set(case.files)]
    paths = [cases[position].files[name] for position in whole for name in (*channels, LABELS)]
    heads, owners = [], []
    with digest_cache(cache_folder() / "heads", paths), ThreadPoolExecutor(_MOST_THREADS) as threads:
        for position, head in zip(whole, threads.map(lambda at: _open_case(cases[at], channels), whole), strict=True):
            if isinstance(head, InputError):
                problems.add_skippable(str(head))
            else:
                heads.append(head)
                owners.append(patients[position])
    if not heads:
        problems.add("no case can be read; expected at least one")
    problems.raise_if_fatal()
    names = [head.name for head in heads]
    values = [frozenset(np.unique(head.labels).tolist()) for head in heads]
    if label_codes is None:
        try:
            codes, doubts = infer_label_codes(names, values)
            warnings += doubts
        except InputError as error:
            problems.add(str(error))
    else:
        codes = [label_codes] * len(heads)
        for name, found in zip(names, values, strict=True):
            if foreign := found - LABEL_CODES[label_codes].values:
                problems.add(f"{name}: the label map holds {min(foreign)}, which label_codes={label_codes} has not")
    problems.raise_if_fatal()
    by_regions = {LABEL_CODES[code].regions: name for name, code in zip(names, codes, strict=True)}
    if len(by_regions) > 1:
        problems.add(
            f"{' and '.join(by_regions.values())}: one has the gross tumor volume alone, one all regions; expected "
            "cases of one kind, or brats.label_codes"
        )
        problems.raise_if_fatal()
    return _dataset(heads, owners, codes, min_area, warnings, problems)


def _open_case(case: CaseFiles, channels: Sequence[str]) -> _Case | InputError:
    """Open a case, from the cache if its files are unchanged, or return the error."""
    files = tuple(case.files[name] for name in channels)
    try:
        digest, labels_digest = cached_files_digest(files), cached_file_digest(case.files[LABELS])
        path = cache_folder() / "heads" / f"{digest[:32]}-{labels_digest[:32]}-{_VERSION}.npz"
        facts = load_arrays(path)
        if facts.keys() != {"shape", "spacing_mm", "brain", "labels", "corner"}:
            facts = _read_summary(files, case.files[LABELS])
            save_arrays(path, **facts)
    except InputError as error:
        return error
    numbers = {name: tuple(facts[name].tolist()) for name in ("shape", "spacing_mm", "corner")}
    return _Case(case.name, files, digest, **numbers, brain=facts["brain"], labels=facts["labels"])


def _read_summary(files: Sequence[Path], labels_file: Path) -> dict[str, np.ndarray]:
    """Read the label map, the headers of all modalities, and the voxels of the first one to find the brain."""
    opened = [open_nifti(file) for file in (*files, labels_file)]
    for other in opened[1:]:
        if not other.has_same_grid(opened[0]):
            raise InputError(
                f"{opened[0].path} and {other.path.name}: expected one grid, "
                f"found {opened[0].grid()} and {other.grid()}"
            )
    labels = _read_labels(opened[-1])
    first = opened[0].stack()
    part = next(iter(find_objects((labels > 0).view(np.uint8))), (slice(0, 0),) * 3)
    return {
        "shape": np.array(opened[0].shape),
        "spacing_mm": np.array(opened[0].spacing_mm),
        "brain": (first != background_value(first)).any(axis=(1, 2)) | labels.any(axis=(1, 2)),
        "labels": labels[part],
        "corner": np.array([span.start for span in part], np.int64),
    }


def _read_labels(file: Nifti) -> np.ndarray:
    """Read a label map (slices, rows, columns) as uint8. Some challenges stored integers as floats."""
    stack = file.stack()
    labels = np.rint(stack).clip(0, 255).astype(np.uint8)
    if (np.abs(stack - labels) > 1e-3).any() or not set(np.flatnonzero(np.bincount(labels.ravel()))) <= _KNOWN:
        found = np.unique(stack)
        shown = ", ".join(f"{value:g}" for value in found[:8]) + (", …" if len(found) > 8 else "")
        raise InputError(f"{file.path}: holds the values {shown}; expected the labels 0 to 4")
    return labels


def _dataset(
    heads: Sequence[_Case],
    patients: Sequence[str],
    codes: Sequence[str],
    min_area: int,
    warnings: list[str],
    problems: Problems,
) -> Dataset:
    records, runs, lost, covered = [], [], 0, 0
    for head, patient, code in zip(heads, patients, codes, strict=True):
        volume = Volume(head.files, head.shape, head.digest, code)
        step, *spacing = head.spacing_mm
        for index in np.flatnonzero(head.brain).tolist():
            class_ids, boxes, areas, instances, missed = connected_components(
                label_regions(head.label_slice(index), code), min_area
            )
            record = Record(
                file_name=f"{head.files[0].name}:{index}",
                path=head.files[0],
                height=head.shape[1],
                width=head.shape[2],
                patient_id=patient,
                class_ids=class_ids,
                boxes=boxes,
                areas=areas,
                spacing_mm=tuple(spacing),
                place=SlicePosition(head.name, index, step),
                volume=volume,
            )
            records.append(record)
            runs.append(instances)
            lost, covered = lost + missed, covered + missed + int(areas.sum())
    if lost:
        warnings.append(
            f"pieces of fewer than {min_area} pixels (min_area) are left out: {lost / covered:.2%} of the labeled ones"
        )
    return Dataset(LABEL_CODES[codes[0]].regions, records, runs, warnings, problems)
