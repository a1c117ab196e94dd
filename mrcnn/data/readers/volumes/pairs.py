"""Pair NIfTI volumes with their label maps by the names of files and folders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mrcnn.data.io.volume_files import VolumeFiles
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.reader_options import VolumesOptions
from mrcnn.data.readers.folder_files import folder_role
from mrcnn.data.readers.image_files import files_below
from mrcnn.data.readers.volumes.cases import LABEL_NAME, Case, FoundCases, nifti_stem, single_file

_IMAGE_WORD = re.compile(
    r"(?:(.+?)[ _.\-]+)?(?:image|img|scan|volume|ct|mr|mri)|(?:image|img|scan|volume|ct|mr)(?:[ _.\-]+(.+)|(\d+))", re.I
)
_SUBJECT = re.compile(r"sub-[^_]+(?=_|$)")
_LABEL_ENTITY = re.compile(r"_(?:seg|label|desc|res|space)-[^_]+")  # of BIDS


def find_pairs(root: Path, options: VolumesOptions, problems: Problems) -> FoundCases:
    """Find NIfTI label maps by the names of folders and files, and the volumes that belong to each.

    The volumes of a label map have its name (`a_seg` and `a`, `a_0000` or `a_ct`), or are all others in its folder if
    it is the only label map there.
    """
    labels, images, unreviewed = [], [], []
    for path in sorted(files_below(root, "**/*.nii*")):
        names = path.relative_to(root).parts[:-1]
        roles = [folder_role(name) for name in names]
        if names[-2:] in (("labels", "final"), ("labels", "original")):  # of MONAI Label
            del roles[-1]
            if names[-1] == "original":
                unreviewed.append(path.relative_to(root).as_posix())
                continue
        role = next((role for role, _ in reversed(roles) if role), None)
        is_label = role == "mask" or (role is None and LABEL_NAME.fullmatch(nifti_stem(path)))
        group = tuple(rest for _, rest in roles if rest)
        (labels if is_label else images).append((path, group))
    in_folder: dict[Path, list[Path]] = defaultdict(list)
    of_group: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for path, group in images:
        in_folder[path.parent].append(path)
        of_group[group].append(path)
    found, used = FoundCases(), set()
    found.warnings += name_warnings("label maps in labels/original are predictions and are not read", unreviewed)
    only = {path.parent for path, _ in labels}
    several = _label_folders(labels, of_group)
    apart = _images_apart(labels, images)
    for folder, (of_folder, near) in several.items():
        used.update(near)
        name = folder.parent.relative_to(root).as_posix()
        found.cases.append(Case(name if name != "." else root.name, VolumeFiles(tuple(near)), of_folder))
    for path, group in labels:
        if path.parent in several:
            continue
        stem = nifti_stem(path)
        match = LABEL_NAME.fullmatch(stem)
        core = _LABEL_ENTITY.sub("", _label_core(path))
        near = of_group.get(group) or ([] if group and not _SUBJECT.match(core) else [image for image, _ in images])
        mine = [
            image
            for image in near
            if {_core(image), nifti_stem(image)} & {core, stem} or _belongs(nifti_stem(image), core)
        ]
        mine = mine or apart.get(path, [])
        alone = sum(each.parent == path.parent for each, _ in labels) == 1 and path.parent in only
        name = core
        if not mine and alone:
            mine, name = in_folder[path.parent], path.parent.relative_to(root).as_posix()
        if not mine:
            problems.add_skippable(f"{path.relative_to(root)}: has no volume of its name; expected {core}.nii.gz")
            continue
        if match and not any(match.groups()):
            name = path.parent.relative_to(root).as_posix()
        used.update(mine)
        found.cases.append(Case(name if name != "." else root.name, VolumeFiles(tuple(mine)), (path,)))
    _merge_folders(found, apart)
    _name_channels(found, problems)
    unused = [image.relative_to(root).as_posix() for image, _ in images if image not in used]
    found.warnings += name_warnings("volumes have no label map and are not read", unused)
    return found


def _label_folders(
    labels: Sequence[tuple[Path, tuple[str, ...]]], of_group: Mapping[tuple[str, ...], list[Path]]
) -> dict[Path, tuple[tuple[Path, ...], list[Path]]]:
    """Return the label maps and volumes of each folder with a label map for each class.

    As `segmentations/liver.nii.gz` of TotalSegmentator.
    None of these label maps has the name of a volume, and all are of the volumes beside their folder.
    """
    in_folder: dict[tuple[Path, tuple[str, ...]], list[Path]] = defaultdict(list)
    for path, group in labels:
        if folder_role(path.parent.name)[0] == "mask":
            in_folder[path.parent, group].append(path)
    found: dict[Path, tuple[tuple[Path, ...], list[Path]]] = {}
    for (folder, group), files in in_folder.items():
        near = [image for image in of_group.get(group, []) if image.parent == folder.parent]
        names = {name for image in near for name in (_core(image), nifti_stem(image))}
        if len(files) > 1 and near and not any(_label_core(file) in names for file in files):
            found[folder] = tuple(files), near
    return found


def _images_apart(
    labels: Sequence[tuple[Path, tuple[str, ...]]], images: Sequence[tuple[Path, tuple[str, ...]]]
) -> dict[Path, list[Path]]:
    """Return the only volume of the same name for each label map of folders of masks that lie apart from the volumes.

    As `Lung_Mask/a.nii.gz` and `Infection_Mask/a.nii.gz` of `scans/a.nii.gz`.
    """
    of_core: dict[str, list[Path]] = defaultdict(list)
    for image, _ in images:
        of_core[_core(image)].append(image)
    in_folder: dict[Path, list[Path]] = defaultdict(list)
    for path, _ in labels:
        if folder_role(path.parent.name)[0] == "mask":
            in_folder[path.parent].append(path)
    return {
        path: of_core[_label_core(path)]
        for files in in_folder.values()
        if len(files) > 1 and all(len(of_core[_label_core(file)]) == 1 for file in files)
        for path in files
    }


def _merge_folders(found: FoundCases, apart: Mapping[Path, list[Path]]) -> None:
    """Merge the cases of one volume whose label maps lie in several folders; each folder is a class then."""
    of_source: dict[tuple[Path, ...], list[Case]] = defaultdict(list)
    for case in found.cases:
        of_source[case.source.files].append(case)
    found.cases = []
    for cases in of_source.values():
        labels = tuple(label for case in cases for label in case.labels)
        is_merged = len({label.parent for label in labels}) == len(labels) > 1 and apart.keys() >= set(labels)
        found.cases += [replace(cases[0], labels=labels)] if is_merged else cases


def label_map_names(labels: Sequence[Path]) -> list[str]:
    """Return the class of each label map of a case: its name, or its folder if all have one name."""
    names = [nifti_stem(path) for path in labels]
    return names if len(set(names)) == len(names) else [path.parent.name for path in labels]


def _label_core(path: Path) -> str:
    match = LABEL_NAME.fullmatch(nifti_stem(path))
    return next(filter(None, match.groups()), None) or nifti_stem(path) if match else nifti_stem(path)


def _core(path: Path) -> str:
    match = _IMAGE_WORD.fullmatch(nifti_stem(path))
    return next(filter(None, match.groups()), None) or nifti_stem(path) if match else nifti_stem(path)


def folder_patient(case: Case) -> str | None:
    """Return the patient of a case of NIfTI files, where its name begins with that of its folder or is one of BIDS.

    As `patient001/patient001_frame01.nii.gz` of ACDC, or `sub-01_ses-2`.
    """
    name = case.name.rpartition("/")[2]
    if match := _SUBJECT.match(name):
        return match[0]
    folder = case.source.files[0].parent.name
    return folder if _belongs(name, folder) else None


def _belongs(stem: str, case: str) -> bool:
    return stem.startswith(case) and stem[len(case) : len(case) + 1] in ("_", "-", ".")


def _name_channels(found: FoundCases, problems: Problems) -> None:
    """Set the channels to what differs in the names of the volumes of a case; they must be the same in all cases."""
    counts: dict[tuple[str, ...], list[Case]] = defaultdict(list)
    for case in found.cases:
        stems = [nifti_stem(path) for path in case.source.files]
        short = case.name.rpartition("/")[2]
        counts[tuple(stem[len(short) :].lstrip("_-. ") if stem.startswith(short) else stem for stem in stems)].append(
            case
        )
    if len({len(names) for names in counts}) > 1:
        most, least = (order(counts, key=len) for order in (max, min))
        problems.add(
            f"{counts[most][0].name} has {len(most)} volumes and {counts[least][0].name} has {len(least)}; expected "
            "the same in each case, or volumes.images with a pattern for each channel"
        )
    elif counts and len(first := next(iter(counts))) > 1:
        if len(counts) > 1:
            problems.add(
                f"the volumes of cases have other names ({', '.join(first)}; {', '.join(list(counts)[1])}); expected "
                "the same in each case, or volumes.images with a pattern for each channel"
            )
        found.channels = first
    else:
        found.channels = ("image",)
    for case in found.cases:
        if len(case.source.files) == 1 and single_file(case.source.files[0]).channels:
            found.channels = tuple(map(str, single_file(case.source.files[0]).channels))
            break
    if len(found.channels) > 1 and all(len(case.source.files) == 1 for case in found.cases):
        channels = tuple(range(len(found.channels)))
        found.cases = [replace(case, source=replace(case.source, channels=channels)) for case in found.cases]
