"""BraTS and its kin: NIfTI volumes of a head in several modalities, and a label map of its tumour.

A case is a folder with `<case>_flair.nii.gz`, `_t1`, `_t1ce`, `_t2` and `_seg`, or with `-t2f`, `-t1n`, `-t1c`, `-t2w`
and `-seg` as from 2023 on, or `_gtv` for the label map, each also as `.nii` and with `_norm` at its end; several cases
may share a folder. What else lies there is passed over. Every axial slice that shows brain is an image, its channels
the modalities. The classes are the three nested regions, or the whole tumour where the label maps have no more; an
instance is a connected piece of one of them in the slice.
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
from mrcnn.data.digest import content_digest, content_digest_of, load_arrays, remembered_digests, save_arrays
from mrcnn.data.io.nifti import Nifti, open_nifti
from mrcnn.data.io.volumes import Volume, background_of
from mrcnn.data.readers.brats_files import LABELS, CaseFiles, choose_modalities, find_cases, patient_of
from mrcnn.data.readers.brats_labels import LABEL_CODES, guess_codes, regions_of
from mrcnn.data.readers.patients import name_patients
from mrcnn.data.readers.problems import Problems
from mrcnn.data.readers.segmentation import connected_components
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError

MIN_AREA = 10
_KNOWN = frozenset({0, 1, 2, 3, 4})
_VERSION = 1  # rises whenever the same files give other facts
_MOST_THREADS = 2  # each has a whole volume in memory


@dataclass(frozen=True)
class _Head:
    """What is kept of a case until the codes of all are known.

    Attributes:
        files: one a channel.
        digest: of their content.
        shape: (slices, rows, columns).
        spacing_mm: along those.
        brain: (slices,) bool, which show brain or tumour.
        labels: the label map, cut to the tumour, uint8.
        corner: where in the volume the cut begins.
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
        """(rows, columns) of the label map."""
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
    """Reads all cases below a folder.

    Args:
        patient_pattern: searched in the case's name; without it a case is a patient, and the visits
            `BraTS-GLI-00001-000` and `-001` are one.
        modalities: some of flair, t1, t1ce, t2 in the order of the channels; None for those that every case has.
        label_codes: one of `LABEL_CODES`; None to tell from names and values, see `guess_codes`.
        min_area: pixels; smaller pieces of a region are no instances.

    Raises:
        InputError: an impossible option, or a list of what is wrong with the files.
    """
    if label_codes not in (None, *LABEL_CODES):
        raise InputError(f"label_codes={label_codes!r}: expected one of {', '.join(LABEL_CODES)}")
    problems = Problems(path)
    cases = find_cases(path, problems)
    channels, warnings = choose_modalities(modalities, cases, problems)
    names = [case.name for case in cases]
    stated = [None if patient_pattern else patient_of(name) for name in names]
    patients, doubts = name_patients(stated, names, patient_pattern, problems)
    warnings += doubts
    problems.raise_if_impassable()

    # What is missing in the other cases is told already.
    whole = [position for position, case in enumerate(cases) if {*channels, LABELS} <= set(case.files)]
    paths = [cases[position].files[name] for position in whole for name in (*channels, LABELS)]
    heads, owners = [], []
    with remembered_digests(cache_folder() / "heads", paths), ThreadPoolExecutor(_MOST_THREADS) as threads:
        for position, head in zip(whole, threads.map(lambda at: _open(cases[at], channels), whole), strict=True):
            if isinstance(head, InputError):
                problems.add_passable(str(head))
            else:
                heads.append(head)
                owners.append(patients[position])
    if not heads:
        problems.add("no case can be read; expected at least one")
    problems.raise_if_impassable()
    names = [head.name for head in heads]
    values = [frozenset(np.unique(head.labels).tolist()) for head in heads]
    if label_codes is None:
        try:
            codes, doubts = guess_codes(names, values)
            warnings += doubts
        except InputError as error:
            problems.add(str(error))
    else:
        codes = [label_codes] * len(heads)
        for name, found in zip(names, values, strict=True):
            if foreign := found - LABEL_CODES[label_codes].values:
                problems.add(f"{name}: the label map holds {min(foreign)}, which label_codes={label_codes} has not")
    problems.raise_if_impassable()
    by_regions = {LABEL_CODES[code].regions: name for name, code in zip(names, codes, strict=True)}
    if len(by_regions) > 1:
        problems.add(
            f"{' and '.join(by_regions.values())}: one has the gross tumour volume alone, one all regions; expected "
            "cases of one kind, or brats.label_codes"
        )
        problems.raise_if_impassable()
    return _dataset(heads, owners, codes, min_area, warnings, problems)


def _open(case: CaseFiles, channels: Sequence[str]) -> _Head | InputError:
    """A case, or what is wrong with it, from the cache where its files are known."""
    files = tuple(case.files[name] for name in channels)
    try:
        digest, labels_digest = content_digest_of(files), content_digest(case.files[LABELS])
        path = cache_folder() / "heads" / f"{digest[:32]}-{labels_digest[:32]}-{_VERSION}.npz"
        facts = load_arrays(path)
        if facts.keys() != {"shape", "spacing_mm", "brain", "labels", "corner"}:
            facts = _read_facts(files, case.files[LABELS])
            save_arrays(path, **facts)
    except InputError as error:
        return error
    numbers = {name: tuple(facts[name].tolist()) for name in ("shape", "spacing_mm", "corner")}
    return _Head(case.name, files, digest, **numbers, brain=facts["brain"], labels=facts["labels"])


def _read_facts(files: Sequence[Path], labels_file: Path) -> dict[str, np.ndarray]:
    """Reads the label map, the headers of the modalities, and of the first its voxels, to see the brain."""
    opened = [open_nifti(file) for file in (*files, labels_file)]
    for other in opened[1:]:
        if not other.lies_as(opened[0]):
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
        "brain": (first != background_of(first)).any(axis=(1, 2)) | labels.any(axis=(1, 2)),
        "labels": labels[part],
        "corner": np.array([span.start for span in part], np.int64),
    }


def _read_labels(file: Nifti) -> np.ndarray:
    """(slices, rows, columns) uint8. Some challenges stored whole numbers as floats."""
    stack = file.stack()
    labels = np.rint(stack).clip(0, 255).astype(np.uint8)
    if (np.abs(stack - labels) > 1e-3).any() or not set(np.flatnonzero(np.bincount(labels.ravel()))) <= _KNOWN:
        found = np.unique(stack)
        shown = ", ".join(f"{value:g}" for value in found[:8]) + (", …" if len(found) > 8 else "")
        raise InputError(f"{file.path}: holds the values {shown}; expected the labels 0 to 4")
    return labels


def _dataset(
    heads: Sequence[_Head],
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
                regions_of(head.label_slice(index), code), min_area
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
            f"pieces of fewer than {min_area} pixels (min_area) are left out: {lost / covered:.2%} of the labelled ones"
        )
    return Dataset(LABEL_CODES[codes[0]].regions, records, runs, warnings, problems)
