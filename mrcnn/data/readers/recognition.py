"""Explain why no reader recognizes a data set: show what lies there, and what the nearest annotation formats need."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mrcnn.data.annotation_formats import FORMATS, Need
from mrcnn.data.problems import to_single_line
from mrcnn.data.readers.image_files import walk_folders

_SHOWN = 8  # lines of the tree
_NEAREST = 3
_USUAL = ("coco", "masks", "yolo", "via")  # shown first of equally near formats
_MOST_FILES = 100_000
_OPENED, _HEAD = 20, 1 << 16  # files that are opened for one need, and bytes of each
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")  # beside .gz, in which volumes end too
_REMEDIES = (
    ((".mhd", ".mha", ".nrrd", ".nhdr", ".img"), "volumes in {} files are not read; convert them to NIfTI (.nii.gz)"),
    ((".npy", ".npz", ".mat", ".h5", ".hdf5"), "images in {} files are not read; save each as PNG or TIFF"),
    ((".svs", ".ndpi", ".mrxs"), "slides in {} files are not read; save their tiles as PNG or TIFF"),
    (_ARCHIVES, "archives in {} files are not read; unpack them first"),
)


def explain_unrecognized(path: Path) -> str:
    """Return lines for the user: the known formats, what lies at `path`, and what the nearest formats lack."""
    if path.is_file():
        unpack = "; unpack it first" if path.suffix.lower() in (*_ARCHIVES, ".gz") else ""
        return f"{path}: no known form of annotations{unpack}; expected one of {', '.join(sorted(FORMATS))}"
    files = sorted(islice(_files_below(path), _MOST_FILES))
    lines = [f"{path}: no known form of annotations is there; expected one of {', '.join(sorted(FORMATS))}"]
    lines += ["  it holds:" if files else "  it holds no files", *(f"    {line}" for line in _tree(files))]
    needs = {name: FORMATS[name].needs for name in dict.fromkeys((*_USUAL, *FORMATS))}
    lacking = {name: [need.text for need in needs[name] if not _is_met(need, path, files)] for name in needs}
    # Formats of which nothing is there are not near.
    near = [name for name in needs if len(lacking[name]) < len(needs[name])]
    near.sort(key=lambda name: len(lacking[name]) / len(needs[name]))
    lines += [f"  {name} would need: {', and '.join(lacking[name]) or 'another layout'}" for name in near[:_NEAREST]]
    suffixes = {os.path.splitext(file)[1].lower() for file in files}
    lines += [f"  {text.format(min(suffixes & set(unread)))}" for unread, text in _REMEDIES if suffixes & set(unread)]
    lines.append("  docs/reference/formats.md shows the layout of each form")
    return "\n".join(map(to_single_line, lines))


def _files_below(root: Path) -> Iterator[str]:
    for folder, names in walk_folders(root):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def _tree(files: list[str]) -> list[str]:
    """Return a line for each folder, with the number of files of each kind, and then the files beside them."""
    kinds: dict[str, Counter[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        kinds.setdefault(folder, Counter())[os.path.splitext(name)[1].lower() or name] += 1
    lines = []
    for folder, counts in kinds.items():
        shown = [f"{count} {kind}" for kind, count in counts.most_common(4)]
        more = [f"{len(counts) - 4} other kinds"] * (len(counts) > 4)
        lines.append(f"{folder or '.'}/: {', '.join([*shown, *more])}")
    return lines if len(lines) <= _SHOWN else [*lines[: _SHOWN - 1], f"… and {len(lines) - _SHOWN + 1} more folders"]


def _is_met(need: Need, root: Path, files: list[str]) -> bool:
    found = (file for file in files if re.search(need.pattern, file.lower()))
    if need.content is None:
        return any(True for _ in found)
    return any(re.search(need.content, _head(root / file), re.DOTALL) for file in islice(found, _OPENED))


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_HEAD)
    except OSError:
        return b""
