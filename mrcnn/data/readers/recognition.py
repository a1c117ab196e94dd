"""Explain why no reader recognizes a data set: show what lies there, and what the nearest annotation formats need."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from mrcnn.data.problems import to_single_line
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, walk_folders

_SHOWN = 8  # lines of the tree
_NEAREST = 3
_MOST_FILES = 100_000
_OPENED, _HEAD = 20, 1 << 16  # files that are opened for one need, and bytes of each
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")


@dataclass(frozen=True)
class Need:
    """Describe something that an annotation format needs.

    Attributes:
        text: what it is, in a message.
        pattern: regular expression searched in the path of a file, in lower case.
        content: regular expression searched in the beginning of such files; None for any content.
    """

    text: str
    pattern: str
    content: bytes | None = None


_IMAGES = Need("images", rf"({'|'.join(map(re.escape, IMAGE_SUFFIXES))})$")
_JSON = Need("a JSON file", r"\.json$")

NEEDS: Mapping[str, tuple[Need, ...]] = MappingProxyType(
    {
        "coco": (
            _IMAGES,
            _JSON,
            Need("its lists images, annotations and categories", r"\.json$", rb'"categories"\s*:'),
        ),
        "masks": (_IMAGES, Need("a folder masks, or files such as a_mask.png", r"mask[^/]*/|_mask[^/]*$")),
        "yolo": (
            _IMAGES,
            Need("a text file for each image, in labels or beside it", r"(^|/)labels/.*\.txt$"),
            Need("data.yaml or classes.txt with the names of the classes", r"(classes\.txt|obj\.names)$|\.ya?ml$"),
        ),
        "via": (_IMAGES, _JSON, Need("its regions (VIA 2) or view (VIA 3)", r"\.json$", rb'"regions"|"fid_list"')),
        "labelme": (_IMAGES, _JSON, Need("its shapes and imagePath", r"\.json$", rb'"imagePath"')),
        "label_studio": (_IMAGES, _JSON, Need("its tasks with data and annotations", r"\.json$", rb'\A\s*\[.*"data"')),
        "panoptic": (_IMAGES, _JSON, Need("its segments_info", r"\.json$", rb'"segments_info"')),
        "supervisely": (
            _IMAGES,
            Need("meta.json", r"(^|/)meta\.json$"),
            Need("a folder ann with a JSON file for each image", r"(^|/)ann/[^/]*\.json$"),
        ),
        "cvat": (_IMAGES, Need("an XML file", r"\.xml$"), Need("its <image> elements", r"\.xml$", rb"<image[\s>]")),
        "voc": (
            _IMAGES,
            Need("SegmentationClass with PNG masks, or XML files with boxes", r"segmentationclass/.*\.png$|\.xml$"),
        ),
        "csv": (
            _IMAGES,
            Need("a CSV file", r"\.csv$"),
            Need(
                "its columns ImageId and EncodedPixels, or image and xmin, ymin, xmax, ymax",
                r"\.csv$",
                rb"(?i)EncodedPixels|x_?min|x1",
            ),
        ),
        "lgg": (
            Need("slices named <patient>_<k>.tif", r"_\d+\.tiff?$"),
            Need("<patient>_<k>_mask.tif", r"_\d+_mask\.tif"),
        ),
        "volumes": (
            Need("NIfTI volumes", r"\.nii(\.gz)?$"),
            Need(
                "label maps such as a_seg.nii.gz, or in labelsTr or labels", r"(seg|label|mask)[^/]*(/.*)?\.nii(\.gz)?$"
            ),
        ),
    }
)
"""What each reader needs, the most usual formats first."""


def explain_unrecognized(path: Path, readers: Collection[str]) -> str:
    """Return lines for the user: the known formats, what lies at `path`, and what the nearest formats lack."""
    if path.is_file():
        unpack = "; unpack it first" if path.suffix.lower() in _ARCHIVES else ""
        return f"{path}: no known form of annotations{unpack}; expected one of {', '.join(sorted(readers))}"
    files = sorted(islice(_files_below(path), _MOST_FILES))
    lines = [f"{path}: no known form of annotations is there; expected one of {', '.join(sorted(readers))}"]
    lines += ["  it holds:" if files else "  it holds no files", *(f"    {line}" for line in _tree(files))]
    lacking = {name: [need.text for need in NEEDS[name] if not _is_met(need, path, files)] for name in NEEDS}
    # Formats of which nothing is there are not near.
    near = [name for name in NEEDS if name in readers and len(lacking[name]) < len(NEEDS[name])]
    near.sort(key=lambda name: len(lacking[name]) / len(NEEDS[name]))
    lines += [f"  {name} would need: {', and '.join(lacking[name]) or 'another layout'}" for name in near[:_NEAREST]]
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
