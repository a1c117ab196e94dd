"""Read volumes and their labels as slices: NIfTI and DICOM, any classes, any plane, BraTS among them.

`mrcnn.data.readers.volumes.cases` finds the cases. Every slice with content is an image with the channels of its
volume; an instance is a connected component of a class in the slice, unless the options say otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mrcnn.cache_folder import cache_folder
from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.digest import digest_cache
from mrcnn.data.io.volume_files import PLANES, Plane, VolumeFiles, best_plane, plane_sizes, to_plane
from mrcnn.data.io.volumes import Pictures, Scaling, Volume, volume_digest
from mrcnn.data.problems import Problems
from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.records import name_patients
from mrcnn.data.readers.segmentation import connected_components, whole_regions
from mrcnn.data.readers.volumes import brats
from mrcnn.data.readers.volumes.cases import (
    Case,
    Classes,
    FoundCases,
    find_by_pattern,
    find_described,
    find_dicom,
    has_description,
    has_dicom_labels,
)
from mrcnn.data.readers.volumes.labels import CaseSummary, LabelRule, open_case, rules_for
from mrcnn.data.readers.volumes.pairs import find_pairs, folder_patient
from mrcnn.data.sample import SlicePosition
from mrcnn.errors import InputError

_MOST_THREADS = 2  # each holds a whole volume in memory


def _find_brats(root: Path, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Find the cases with all chosen modalities. Raises `InputError` like `find_cases` and `choose_modalities`."""
    cases = brats.find_cases(root, problems)
    channels, warnings = brats.choose_modalities(options.modalities, cases, problems)
    # Missing files of the other cases are reported already.
    found = [
        Case(case.name, VolumeFiles(tuple(case.files[name] for name in channels)), (case.files[brats.LABELS],))
        for case in cases
        if {*channels, brats.LABELS} <= set(case.files)
    ]
    return FoundCases(found, channels, warnings=warnings)


def _brats_rules(
    names: Sequence[str], summaries: Sequence[CaseSummary], label_codes: str | None, problems: Problems
) -> tuple[list[LabelRule], list[str]]:
    """Return the regions of each case in the stated or inferred label codes, and warnings."""
    values = [summary.values() for summary in summaries]
    warnings: list[str] = []
    codes: list[str] = []
    if label_codes is None:
        try:
            codes, warnings = brats.infer_label_codes(names, values)
        except InputError as error:
            problems.add(str(error))
    else:
        codes = [label_codes] * len(names)
        for name, found in zip(names, values, strict=True):
            if foreign := found - brats.LABEL_CODES[label_codes].values:
                problems.add(f"{name}: the label map holds {min(foreign)}, which label_codes={label_codes} has not")
    problems.raise_if_fatal()
    by_regions = {brats.LABEL_CODES[code].regions: name for name, code in zip(names, codes, strict=True)}
    if len(by_regions) > 1:
        problems.add(
            f"{' and '.join(by_regions.values())}: one has the gross tumor volume alone, one all regions; expected "
            "cases of one kind, or volumes.label_codes"
        )
        problems.raise_if_fatal()
    known = {code: brats.LABEL_CODES[code] for code in codes}
    return [LabelRule(known[code].regions, known[code].sets, label_codes=code) for code in codes], warnings


_FINDERS = {
    "described": find_described,
    "pattern": find_by_pattern,
    "pairs": find_pairs,
    "dicom": find_dicom,
    "brats": _find_brats,
}


def matches(path: Path) -> bool:
    """Check for a data set of volumes."""
    return path.is_dir() and _find_layout(path) is not None


def _find_layout(path: Path) -> str | None:
    if has_description(path):
        return "described"
    if brats.has_cases(path):
        return "brats"
    if find_pairs(path, VolumesOptions.model_validate({}), Problems(path)).cases:
        return "pairs"
    return "dicom" if has_dicom_labels(path) else None


def read(path: Path, *, patient_pattern: str | None = None, options: VolumesOptions) -> Dataset:
    """Read all cases below a folder.

    `patient_pattern` is searched in the name of the case; by default each case is a patient, and visits of BraTS such
    as `BraTS-GLI-00001-000` and `-001` are one.

    Raises:
        InputError: an option or a file is invalid; the message lists all problems of files.
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected one with volumes and their labels")
    layout = options.layout
    if layout == "auto":
        layout = "pattern" if options.images else _find_layout(path)
    if layout is None:
        raise InputError(
            f"{path}: holds no case; expected dataset.json with imagesTr and labelsTr, NIfTI volumes with label maps "
            "such as a.nii.gz and a_seg.nii.gz, or DICOM series with a segmentation or structure set"
        )
    problems = Problems(path)
    found = _FINDERS[layout](path, options, problems)
    for name, count in Counter(case.name for case in found.cases).items():
        if count > 1:
            problems.add(f"{name}: {count} cases have this name; expected each once")
    found = _choose_channels(found, options, problems) if layout != "brats" else found
    names = [case.name for case in found.cases]
    stated = [None if patient_pattern else _stated_patient(case, layout) for case in found.cases]
    in_files = [case.patient for case in found.cases]
    patients, doubts = name_patients(stated, names, patient_pattern, problems, in_files=in_files)
    warnings = found.warnings + [doubt.replace("images", "volumes") for doubt in doubts]
    problems.raise_if_fatal()

    summaries, owners, cases = _open_cases(found.cases, patients, 4 if layout == "brats" else None, problems)
    if not summaries:
        problems.add("no case can be read; expected at least one")
    problems.raise_if_fatal()
    if layout == "brats":
        rules, doubts = _brats_rules([case.name for case in cases], summaries, options.label_codes, problems)
    else:
        classes = found.classes if options.classes is None else _stated_classes(options)
        rules, doubts = rules_for(cases, summaries, classes, options, problems)
    problems.raise_if_fatal()
    return _dataset(cases, summaries, owners, rules, found.channels, layout, options, warnings + doubts, problems)


def _stated_patient(case: Case, layout: str) -> str | None:
    if layout == "brats":
        return brats.patient_from_case(case.name)
    return folder_patient(case) if layout == "pairs" else None


def _stated_classes(options: VolumesOptions) -> Classes:
    return {name: value if isinstance(value, tuple) else (value,) for name, value in (options.classes or {}).items()}


def _choose_channels(found: FoundCases, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Select the channels of `options.modalities`."""
    if options.modalities is None or not found.cases:
        return found
    if not options.modalities or len(set(options.modalities)) != len(options.modalities):
        raise InputError(f"modalities={list(options.modalities)}: expected channels, each once")
    if unknown := [name for name in options.modalities if name not in found.channels]:
        raise InputError(f"modalities: {unknown[0]}: expected some of {', '.join(found.channels)}")
    chosen = [found.channels.index(name) for name in options.modalities]
    cases = [case.with_channels(chosen) for case in found.cases]
    return FoundCases(cases, options.modalities, found.classes, found.warnings)


def _open_cases(
    cases: Sequence[Case], patients: Sequence[tuple[str, bool] | str], highest: int | None, problems: Problems
) -> tuple[list[CaseSummary], list[str], list[Case]]:
    """Open each case in threads; cases that cannot be read become problems."""
    paths = [file for case in cases for file in (*case.source.files, *case.labels)]
    summaries, owners, opened = [], [], []
    with digest_cache(cache_folder() / "heads", paths), ThreadPoolExecutor(_MOST_THREADS) as threads:
        results = threads.map(lambda case: open_case(case, highest), cases)
        for case, patient, summary in zip(cases, patients, results, strict=True):
            if isinstance(summary, InputError):
                problems.add_skippable(str(summary))
            else:
                summaries.append(summary)
                owners.append(patient)
                opened.append(case)
    return summaries, owners, opened


def _dataset(
    cases: Sequence[Case],
    summaries: Sequence[CaseSummary],
    patients: Sequence[str],
    rules: Sequence[LabelRule],
    channels: tuple[str, ...],
    layout: str,
    options: VolumesOptions,
    warnings: list[str],
    problems: Problems,
) -> Dataset:
    plane, scaling = _plane(summaries, layout, options), _scaling(layout, options)
    flat = [case.pictures or case.frames for case in cases]
    if any(flat) and (options.window is not None or options.scaling in ("zscore", "percentiles") or plane != "axial"):
        raise InputError(
            f"{cases[flat.index(True)].name}: is no volume but images; expected no window, scaling and plane of volumes"
        )
    if not all(flat) and (any(flat) or scaling.method == "none"):
        name = cases[flat.index(False)].name
        raise InputError(f"{name}: is a volume; expected neither 2-D images beside it nor volumes.scaling=none")
    if plane != "axial":
        warnings = (
            [*warnings, f"slices are {plane}, the plane of the finest pixels"] if options.plane == "auto" else warnings
        )
    records, runs, lost, covered = [], [], 0, 0
    names = Counter(case.source.files[0].name for case in cases)
    for case, summary, patient, rule in zip(cases, summaries, patients, rules, strict=True):
        volume = _volume(case, summary, rule, channels, plane, scaling)
        step, height_mm, width_mm = plane_sizes(summary.spacing_mm, plane) if summary.spacing_mm else (None, 0.0, 0.0)
        step = None if step is None or np.isnan(step) else step
        first = case.source.files[0]
        shown = first.name if names[first.name] == 1 else f"{case.name}/{first.name}"
        labels = to_plane(summary.full_labels(), plane)
        for index in np.flatnonzero(summary.content[PLANES.index(plane)]).tolist():
            class_ids, boxes, areas, instances, missed = _slice_instances(labels[index], rule, options)
            record = Record(
                file_name=shown if case.pictures else f"{shown}:{index}",
                path=first,
                height=volume.shape[1],
                width=volume.shape[2],
                patient_id=patient,
                class_ids=class_ids,
                boxes=boxes,
                areas=areas,
                spacing_mm=(height_mm, width_mm) if summary.spacing_mm else None,
                place=SlicePosition(case.name, index, step),
                volume=volume,
                pseudonymous=patient == case.patient,
            )
            records.append(record)
            runs.append(instances)
            lost, covered = lost + missed, covered + missed + int(areas.sum())
    if lost:
        warnings = [
            *warnings,
            f"pieces of fewer than {options.min_area} pixels (min_area) are left out: {lost / covered:.2%} of the "
            "labeled ones",
        ]
    return Dataset(rules[0].class_names, records, runs, warnings, problems)


def _slice_instances(
    labels: np.ndarray, rule: LabelRule, options: VolumesOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[bytes], int]:
    """Return class ids, boxes, areas and run lengths of the instances of a slice, and the pixels of those too small."""
    if not labels.any():
        return connected_components([], options.min_area)
    if rule.by_case and options.slice_instances != "classes":
        numbers = [(value, number) for number, values in enumerate(rule.sets, start=1) for value in values]
        return whole_regions([labels == value for value, _ in numbers], [each for _, each in numbers], options.min_area)
    if options.slice_instances == "values":
        values = np.unique(labels[labels > 0])
        return whole_regions([labels == value for value in values], [1] * len(values), options.min_area)
    regions = list(rule.regions(labels))
    if options.slice_instances == "classes":
        return whole_regions(regions, range(1, len(regions) + 1), options.min_area)
    return connected_components(regions, options.min_area)


def _plane(summaries: Sequence[CaseSummary], layout: str, options: VolumesOptions) -> Plane:
    """Return the requested plane, or the one that is best for most cases."""
    if options.plane != "auto":
        return options.plane
    if layout == "brats":
        return "axial"
    counts: Mapping[Plane, int] = Counter(best_plane(each.spacing_mm) for each in summaries if each.spacing_mm)
    return max(PLANES, key=lambda plane: counts.get(plane, 0))


def _scaling(layout: str, options: VolumesOptions) -> Scaling:
    if options.window is not None:
        return Scaling("window", options.window)
    chosen = options.scaling
    return Scaling(("zscore" if layout == "brats" else "percentiles") if chosen == "auto" else chosen)


def _volume(
    case: Case, summary: CaseSummary, rule: LabelRule, channels: tuple[str, ...], plane: Plane, scaling: Scaling
) -> Volume | Pictures:
    if case.pictures or case.frames:
        digest = case.source.digest()
        return Pictures(case.source.files, summary.shape, digest, channels, case.frames, class_values=rule.values)
    shape = plane_sizes(summary.shape, plane)
    digest = volume_digest(case.source, plane, scaling)
    return Volume(case.source, shape, digest, channels, rule.label_codes, rule.values, plane, scaling)
