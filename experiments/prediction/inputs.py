"""Find the items to predict in files, folders, patterns and web addresses."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from experiments.prediction.downloads import is_web_address, redact_address
from mrcnn.data.io.images import is_dicom_file
from mrcnn.data.io.video import SUFFIXES as VIDEO_SUFFIXES
from mrcnn.data.problems import DataError, Problems, summarize_names
from mrcnn.data.readers.image_files import is_system_name
from mrcnn.data.readers.volumes.brats import LABELS, MODALITIES, file_kind, find_cases
from mrcnn.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", "")
"""Suffixes of DICOM files. Other files are checked by content: their names can end in a part of a UID."""
NIFTI_SUFFIXES = (".nii", ".nii.gz")
STACKS = ("series", "volume", "case", "loop")
_PATTERN = frozenset("*?[")
_NUMBERED = re.compile(r"(.+)_(\d{4})")
_SLICE = re.compile(r"(.*?)(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Item:
    """An input to predict: an image, a stack of slices or a video.

    Attributes:
        name: relative path of its output files, without suffix.
        kind: image, dicom (a single DICOM image), series (DICOM slices), loop (a DICOM file of several frames), volume
            (a NIfTI file), case (NIfTI files of several modalities) or video.
        files: its files, in order.
        source: its name in outputs and messages, without folders of this machine.
        modalities: the modality of each file of a case.
        slices: of an image in a folder of numbered images, all of these in order; else empty.
    """

    name: str
    kind: str
    files: tuple[Path, ...]
    source: str
    modalities: tuple[str, ...] = ()
    slices: tuple[Path, ...] = ()

    def seen_files(self, context_slices: int) -> tuple[Path, ...]:
        """Return the files whose pixels a model sees: with context also the neighbors of a numbered image."""
        if not (context_slices and self.slices):
            return self.files
        index = self.slices.index(self.files[0])
        return self.slices[max(index - context_slices, 0) : index + context_slices + 1]


@dataclass
class Inputs:
    """Items, errors of other inputs, and the skipped files of folders: reason → names."""

    items: list[Item] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        self.skipped.setdefault(reason, []).append(name)

    def skipped_line(self) -> str:
        """Summarize the skipped files: their number and first names for each reason, or an empty text."""
        return "; ".join(summarize_names(reason, names) for reason, names in self.skipped.items())


def find_inputs(words: Sequence[str], *, base: Path, output: Path, fetch: Callable[[str], Path]) -> Inputs:
    """Find all items in the inputs of a command line, each once.

    Args:
        words: paths, patterns such as `scans/*.png`, or web addresses.
        base: folder of relative paths.
        output: folder to exclude, even if it lies inside an input folder.
        fetch: web address → path of the downloaded file; its `InputError` becomes one of the problems.

    Raises:
        InputError: a path does not exist, a pattern matches no file, an address has another scheme, two items have
            the same name, or there are no items.
    """
    addresses = [is_web_address(word) for word in words]  # check all before the first download
    paths = [[] if web else _paths(word, base) for word, web in zip(words, addresses, strict=True)]
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
        skipped = f" (skipped: {found.skipped_line()})" if found.skipped else ""
        raise InputError(f"{words[0]}: contains nothing to predict; expected images, DICOM, NIfTI or videos{skipped}")
    found.items = _with_unique_names(found.items)
    return found


def _paths(word: str, base: Path) -> list[Path]:
    path = base / Path(word).expanduser()
    if path.exists():
        return [path.resolve()]
    if _PATTERN & set(word):
        matches = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
        if matches := [each.resolve() for each in matches if not is_system_name(each.name)]:
            return matches
        raise InputError(f"{word}: no file matches this pattern")
    raise InputError(f"{word}: no such file or folder")


def _of_file(path: Path, origin: str | None = None) -> Item:
    """Determine the kind of a single file by its suffix; with an unknown suffix it is DICOM by content, or an image."""
    lower = path.name.lower()
    if lower.endswith(NIFTI_SUFFIXES):
        kind = "volume"
    elif lower.endswith(VIDEO_SUFFIXES):
        kind = "video"
    else:
        kind = _dicom_kind(path) if not lower.endswith(IMAGE_SUFFIXES) and _is_dicom(path) else "image"
    return Item(_stem(path.name), kind, (path,), origin or path.name)


def _of_folder(folder: Path, output: Path, found: Inputs) -> list[Item]:
    """Find the items below a folder, sorted by name, without hidden files and the folder `output`."""
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
            found.skip("files of no kind that is read", relative)
    items = _in_order(items)
    items += _dicom_items(folder, dicom, found) + _nifti_items(folder, nifti, found)
    return sorted(items, key=lambda item: (item.name, item.source))


def _in_order(items: Sequence[Item]) -> list[Item]:
    """Add to each image the others of its folder whose names differ in the number at their end alone, in its order."""
    numbers: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    keys: list[tuple[Path, str] | None] = []
    for item in items:
        match = _SLICE.fullmatch(_stem(item.files[0].name)) if item.kind == "image" else None
        keys.append((item.files[0].parent, match[1]) if match else None)
        if match:
            numbers[item.files[0].parent, match[1]][int(match[2])] = item.files[0]
    orders = {key: tuple(files[number] for number in sorted(files)) for key, files in numbers.items()}
    found = []
    for item, key in zip(items, keys, strict=True):
        slices = orders[key] if key else ()
        found.append(replace(item, slices=slices) if len(slices) > 1 and item.files[0] in slices else item)
    return found


def _files(folder: Path, output: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_system_name(name) and Path(place, name) != output)
        paths = (Path(place, name) for name in sorted(names) if not is_system_name(name))
        yield from (path for path in paths if path.is_file())  # reading a pipe would block


def _dicom_items(folder: Path, files: Sequence[Path], found: Inputs) -> list[Item]:
    if not files:
        return []
    from mrcnn.data.io.dicom_series import group_series  # imports pydicom, which takes time

    grouped = group_series(files)
    for kind, path in grouped.others:
        found.skip(f"DICOM files of the kind {kind}", path.relative_to(folder).as_posix())
    items = []
    for path in grouped.alone:
        relative = path.relative_to(folder).as_posix()
        items.append(Item(_stem(relative), _dicom_kind(path), (path,), relative))
    of_folder = Counter(each.files[0].parent for each in grouped.series)
    stacks: Counter[str] = Counter()
    for each in grouped.series:
        parent = each.files[0].parent
        name = parent.relative_to(folder).as_posix()
        name = folder.name if name == "." else name
        if of_folder[parent] > 1:  # series descriptions can contain patient names; a digest of the UID cannot
            name += f"/series-{hashlib.sha256(each.uid.encode()).hexdigest()[:8]}"
            stacks[name] += 1
            name += f"-{stacks[name]}" if stacks[name] > 1 else ""
        items.append(Item(name, "series", each.files, name))
    return items


def _nifti_items(folder: Path, files: Sequence[Path], found: Inputs) -> list[Item]:
    """Find cases by the names of their files, as in BraTS or numbered `a_0000`, `a_0001` as in nnU-Net.

    In other folders every NIfTI file is a volume.

    Other files in the folder of a case, such as label maps and brain masks, are skipped, as in training.
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
    numbered: dict[tuple[Path, str], list[tuple[str, Path]]] = defaultdict(list)
    for path, kind in kinds.items():
        if kind is None and path.parent not in of_cases and (match := _NUMBERED.fullmatch(_stem(path.name))):
            numbered[path.parent, match[1]].append((match[2], path))
    for (parent, case), found_files in numbered.items():
        if len(found_files) > 1:
            place = (parent / case).relative_to(folder).as_posix()
            numbers, files_of = zip(*sorted(found_files), strict=True)
            items.append(Item(place, "case", files_of, place, numbers))
    in_cases = {path for item in items for path in item.files}
    for path, kind in kinds.items():
        if path in in_cases:
            continue
        if kind is None and path.parent not in of_cases:
            relative = path.relative_to(folder).as_posix()
            items.append(Item(_stem(relative), "volume", (path,), relative))
        elif kind == LABELS or kind is None:
            found.skip("NIfTI files beside a case", path.relative_to(folder).as_posix())
    return items


def _is_dicom(path: Path) -> bool:
    with suppress(OSError):
        return is_dicom_file(path)
    return False


def _dicom_kind(path: Path) -> str:
    from mrcnn.data.io.dicom import count_frames  # imports pydicom, which takes time

    return "loop" if count_frames(path) > 1 else "dicom"


def _stem(relative: str) -> str:
    """Remove the suffix of a known file type; other suffixes, such as a part of a UID, belong to the name."""
    path = PurePosixPath(relative)
    for suffix in (*NIFTI_SUFFIXES[::-1], *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *(each for each in DICOM_SUFFIXES if each)):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.with_name(path.name[: -len(suffix)]).as_posix()
    return path.as_posix()


def _with_unique_names(items: Sequence[Item]) -> list[Item]:
    """Make names unique regardless of case: `a.png` and `a.jpg` become `a_png` and `a_jpg`."""
    counts = Counter(item.name.lower() for item in items)
    unique = [
        replace(item, name=f"{item.name}_{_suffix(item)}") if counts[item.name.lower()] > 1 else item for item in items
    ]
    for name, count in Counter(item.name.lower() for item in unique).items():
        if count > 1:
            raise InputError(f"{name}: two inputs have this name; predict each with its own --output")
    return unique


def _suffix(item: Item) -> str:
    return item.files[0].name.rpartition(".")[2].lower() if "." in item.files[0].name else item.kind
