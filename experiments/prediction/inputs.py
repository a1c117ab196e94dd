"""What a person wants predicted: files, folders, patterns and addresses as items, each of which is one thing."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from experiments.prediction.downloads import is_web_address, redact_address
from mrcnn.data.io.images import HEAD_BYTES, is_dicom
from mrcnn.data.io.video import SUFFIXES as VIDEO_SUFFIXES
from mrcnn.data.problems import DataError, Problems, summarize_names
from mrcnn.data.readers.brats_cases import LABELS, MODALITIES, file_kind, find_cases
from mrcnn.data.readers.image_files import is_system_name
from mrcnn.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", "")
"""Looked into for DICOM's mark; a file of a folder may lack a suffix, or have the end of a UID for one."""
NIFTI_SUFFIXES = (".nii", ".nii.gz")
STACKS = ("series", "volume", "case")
_PATTERN = frozenset("*?[")


@dataclass(frozen=True)
class Item:
    """One thing to predict.

    Attributes:
        name: of what is written for it: a relative path, without suffix.
        kind: image, dicom (a single DICOM image), series (DICOM slices), volume (a NIfTI file), case (NIfTI files of
            several modalities) or video.
        files: of which it is made, in order.
        source: what a person would call it, with no folder of the machine in it.
        modalities: of a case, what each file is.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    source: str
    modalities: tuple[str, ...] = ()


@dataclass
class Inputs:
    """Items, what is wrong with other inputs, and files of folders that are none: their names by what they are."""

    items: list[Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    passed_over: dict[str, list[str]] = field(default_factory=dict)

    def pass_over(self, kind: str, name: str) -> None:
        self.passed_over.setdefault(kind, []).append(name)

    def passed_over_line(self) -> str:
        """How many files of each kind, and the first of their names; empty where there are none."""
        return "; ".join(summarize_names(kind, names) for kind, names in self.passed_over.items())


def find_inputs(words: Sequence[str], *, standing: Path, output: Path, fetch: Callable[[str], Path]) -> Inputs:
    """All items that the words of a command line stand for, each once.

    Args:
        words: paths, patterns such as `scans/*.png`, or addresses.
        standing: the folder that paths are seen from.
        output: a folder of which nothing is an input, even where it lies in one.
        fetch: an address → the file fetched; an `InputError` of it becomes one of the problems.

    Raises:
        InputError: a path that is not there, a pattern that nothing fits, an address of another scheme, two items of
            one name, or nothing at all.
    """
    addresses = [is_web_address(word) for word in words]  # all, before the first is fetched
    paths = [[] if web else _paths(word, standing) for word, web in zip(words, addresses, strict=True)]
    found = Inputs()
    seen: set[tuple[Path, ...]] = set()
    for word, web, several in zip(words, addresses, paths, strict=True):
        if web:
            try:
                path = fetch(word)
            except InputError as error:
                found.problems.append(str(error))
                continue
            several, origin = [path], redact_address(word)
        else:
            origin = None
        for path in several:
            items = _of_folder(path, output, found) if path.is_dir() else [_of_file(path, origin)]
            for item in items:
                if item.files not in seen:
                    seen.add(item.files)
                    found.items.append(item)
    if not found.items and not found.problems:
        left_out = f" (passed over: {found.passed_over_line()})" if found.passed_over else ""
        raise InputError(f"{words[0]}: holds nothing to predict; expected images, DICOM, NIfTI or videos{left_out}")
    found.items = _named_apart(found.items)
    return found


def _paths(word: str, standing: Path) -> list[Path]:
    path = standing / Path(word).expanduser()
    if path.exists():
        return [path.resolve()]
    if _PATTERN & set(word):
        fitting = sorted(glob.glob(str(path), recursive=True))
        fitting = [each for each in fitting if not is_system_name(Path(each).name)]
        if fitting:
            return [Path(each).resolve() for each in fitting]
        raise InputError(f"{word}: no file fits this pattern")
    raise InputError(f"{word}: no such file or folder")


def _of_file(path: Path, origin: str | None = None) -> Item:
    """A file by itself is what its name says; of another suffix, DICOM by its content, or an image that will tell."""
    lower = path.name.lower()
    if lower.endswith(NIFTI_SUFFIXES):
        kind = "volume"
    elif lower.endswith(VIDEO_SUFFIXES):
        kind = "video"
    else:
        kind = "dicom" if not lower.endswith(IMAGE_SUFFIXES) and _is_dicom(path) else "image"
    return Item(_stem(path.name), kind, (path,), origin or path.name)


def _of_folder(folder: Path, output: Path, found: Inputs) -> list[Item]:
    """Everything below a folder, in the order of names; hidden files and what lies in `output` are left out."""
    dicom, nifti, items = [], [], []
    for path in _files(folder, output):
        lower, relative = path.name.lower(), path.relative_to(folder).as_posix()
        if lower.endswith(NIFTI_SUFFIXES):
            nifti.append(path)
        elif lower.endswith(IMAGE_SUFFIXES):
            items.append(Item(_stem(relative), "image", (path,), relative))
        elif lower.endswith(VIDEO_SUFFIXES):
            items.append(Item(_stem(relative), "video", (path,), relative))
        elif _is_dicom(path):
            dicom.append(path)
        else:
            found.pass_over("of no kind that is read", relative)
    items += _dicom_items(folder, dicom, found) + _nifti_items(folder, nifti, found)
    return sorted(items, key=lambda item: (item.name, item.source))


def _files(folder: Path, output: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_system_name(name) and Path(place, name) != output)
        paths = (Path(place, name) for name in sorted(names) if not is_system_name(name))
        yield from (path for path in paths if path.is_file())  # a pipe would be waited for


def _dicom_items(folder: Path, files: Sequence[Path], found: Inputs) -> list[Item]:
    if not files:
        return []
    from mrcnn.data.io.dicom_series import group_series  # pydicom: only for those who have DICOM

    grouped = group_series(files)
    for kind, path in grouped.others:
        found.pass_over(f"DICOM of the kind {kind}", path.relative_to(folder).as_posix())
    items = []
    for path in grouped.alone:
        relative = path.relative_to(folder).as_posix()
        items.append(Item(_stem(relative), "dicom", (path,), relative))
    of_folder = Counter(each.files[0].parent for each in grouped.series)
    stacks: Counter[str] = Counter()
    for each in grouped.series:
        parent = each.files[0].parent
        name = parent.relative_to(folder).as_posix()
        name = folder.name if name == "." else name
        if of_folder[parent] > 1:  # a description may hold a name of the patient's; the UID's digest tells nothing
            name += f"/series-{hashlib.sha256(each.uid.encode()).hexdigest()[:8]}"
            stacks[name] += 1
            name += f"-{stacks[name]}" if stacks[name] > 1 else ""
        items.append(Item(name, "series", each.files, name))
    return items


def _nifti_items(folder: Path, files: Sequence[Path], found: Inputs) -> list[Item]:
    """Cases of several modalities by BraTS's names, and elsewhere every NIfTI file as a volume.

    What else lies in a case's folder, such as label maps and masks of the brain, is passed over, as in a training.
    """
    kinds = {path: file_kind(path) for path in files}
    of_cases = {path.parent for path, kind in kinds.items() if kind in MODALITIES}
    items = []
    if any(kind in MODALITIES for kind in kinds.values()):
        problems = Problems(folder)
        for case in find_cases(folder, problems, require_labels=False):
            chosen = [name for name in MODALITIES if name in case.files and case.files[name] in kinds]
            if chosen:
                place = case.files[chosen[0]].parent.relative_to(folder).as_posix()
                name = case.name if place == "." or place.endswith(case.name) else f"{place}/{case.name}"
                files_of = tuple(case.files[name] for name in chosen)
                items.append(Item(name, "case", files_of, case.name, tuple(chosen)))
        try:
            problems.raise_if_any()
        except DataError as error:
            found.problems += error.problems
    for path, kind in kinds.items():
        if kind is None and path.parent not in of_cases:
            relative = path.relative_to(folder).as_posix()
            items.append(Item(_stem(relative), "volume", (path,), relative))
        elif kind == LABELS or kind is None:
            found.pass_over("NIfTI files beside a case", path.relative_to(folder).as_posix())
    return items


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(HEAD_BYTES))
    except OSError:
        return False


def _stem(relative: str) -> str:
    """A relative path without the suffixes that say what it is; others, as of a UID, are part of the name."""
    path = PurePosixPath(relative)
    for suffix in (*NIFTI_SUFFIXES[::-1], *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *(each for each in DICOM_SUFFIXES if each)):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.with_name(path.name[: -len(suffix)]).as_posix()
    return path.as_posix()


def _named_apart(items: Sequence[Item]) -> list[Item]:
    """Items whose names differ, also where case does not count: `a.png` beside `a.jpg` become `a_png` and `a_jpg`."""
    counts = Counter(item.name.lower() for item in items)
    apart = [
        replace(item, name=f"{item.name}_{_suffix(item)}") if counts[item.name.lower()] > 1 else item for item in items
    ]
    for name, count in Counter(item.name.lower() for item in apart).items():
        if count > 1:
            raise InputError(f"{name}: two inputs are called so; predict them with an --output each")
    return apart


def _suffix(item: Item) -> str:
    return item.files[0].name.rpartition(".")[2].lower() if "." in item.files[0].name else item.kind
