"""Determine classes from the names of folders: of images, as `benign/`, or of masks, as `lung masks/`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mrcnn.data.io.label_images import LABEL_SUFFIXES
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.data.reader_options import MasksOptions
from mrcnn.data.readers.folder_files import SPLIT_FOLDERS, FolderFile, folder_role
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, parse_integer, read_text
from mrcnn.data.readers.mask_folders import MaskPairs
from mrcnn.errors import InputError

UNNAMED = MasksOptions.model_fields["class_names"].default
_FORMATS = frozenset(suffix[1:] for suffix in (*IMAGE_SUFFIXES, *LABEL_SUFFIXES))
_SIDES = frozenset({"left", "right"})
_MOST_CLASSES = 20
_KIND = re.compile(r"([^\W\d_]{3,})[ _\-]*\(?\d+\)?")
_TABLE = "_classes.csv"


def find_classes(pairs: MaskPairs, options: MasksOptions) -> tuple[dict[Path, str], tuple[str, ...]]:
    """Return the class of each image or mask from its folder, and the stated classes.

    Raises:
        InputError: `class_names` are stated and a folder with masks is not among them.
    """
    names = () if options.class_names == UNNAMED else options.class_names
    if not names and options.instances != "values" and options.class_folders is None and (listed := _listed(pairs)):
        return {}, listed
    if options.class_folders is False or (options.class_folders is None and options.instances == "values"):
        return {}, options.class_names
    folders = _mask_classes(pairs) or _image_classes(pairs.files, pairs.owned, options.class_folders)
    if options.class_folders and not folders:
        folders = _image_classes(pairs.files, [mask for masks in pairs.owned.values() for mask in masks], True)
    stated = {name.casefold(): name for name in names}
    masked = set(_count(pairs, folders, with_mask=True))
    if names and (unknown := sorted(name for name in masked if name.casefold() not in stated)):
        if options.class_folders is None:
            return {}, options.class_names
        raise InputError(f"class_names: {', '.join(names)}; expected the folder {unknown[0]} among them")
    return {path: stated.get(name.casefold(), name) for path, name in folders.items()}, names or options.class_names


def kinds_in_names(pairs: MaskPairs) -> list[str]:
    """Return a warning if the names of images, such as `benign (1).png`, seem to tell classes, which are not read."""
    matches = [_KIND.fullmatch(pairs.files[image].stem) for image in pairs.owned]
    kinds = Counter(match[1] for match in matches if match)
    if kinds.total() < len(matches) or not 2 <= len(kinds) <= _MOST_CLASSES or min(kinds.values()) < 2:
        return []
    if not SPLIT_FOLDERS.isdisjoint(kind.casefold() for kind in kinds):
        return []
    shown = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
    return [
        f"names of images begin with {shown}, and all instances are one class; if these are classes, move the images "
        "and masks of each into a folder of its name"
    ]


def _listed(pairs: MaskPairs) -> tuple[str, ...]:
    """Return the classes of the values 1, 2, … from Roboflow's `_classes.csv` in all folders of images."""
    tables = {folder / _TABLE for folder in {image.parent for image in pairs.owned}}
    if not all(table.is_file() for table in tables):
        return ()
    contents = {read_text(table) for table in tables}
    rows = [line.split(",", 1) for line in contents.pop().splitlines()[1:] if line.strip()]
    classes = {parse_integer(row[0]): row[1].strip() for row in rows if len(row) == 2}
    if contents or len(classes) < len(rows) or sorted(classes, key=str) != sorted(range(len(rows)), key=str):
        raise InputError(f"{min(tables)}: expected a value from 0 and a class a line, the same in each folder")
    return tuple(classes[value] for value in range(1, len(rows)))


def classes_of_folders(stated: tuple[str, ...], kinds: list[str | None]) -> tuple[tuple[str, ...], list[int]]:
    """Return class names, and the class id of each instance from the name of its folder."""
    names = tuple(sorted({kind or UNNAMED[0] for kind in kinds})) or UNNAMED if stated == UNNAMED else stated
    return names, [names.index(kind or names[0]) + 1 for kind in kinds]


def folder_warnings(
    pairs: MaskPairs,
    folders: Mapping[Path, str],
    class_names: tuple[str, ...],
    drawn: set[Path],
    bare: list[Path],
    problems: Problems,
) -> list[str]:
    """Return warnings about classes by folder; an image without a mask among masked ones of its class is a problem."""
    counts, kind = _count(pairs, folders), "images" if pairs.owned.keys() & folders.keys() else "masks"
    masked = {folders[image] for image in drawn if image in folders}
    healthy = [f"{name} ({counts[name]} {kind})" for name in counts if name not in class_names]
    without = f"; without instances: {', '.join(healthy)}" if healthy else ""
    source = "name of the masks" if pairs.added.keys() & folders.keys() else "folder"
    warnings = [
        f"classes by {source}: {', '.join(f'{name} ({counts[name]} {kind})' for name in class_names)}{without}; set "
        f"masks.class_folders=false if {'these' if pairs.added else 'the folders'} are no classes"
    ]
    for image in bare:
        if folders.get(image) in masked:
            problems.add_skippable(
                f"{image.relative_to(pairs.root).as_posix()}: has no mask, and other images of {folders[image]} have "
                "one; expected a mask, which is all 0 where nothing is to be seen",
                image,
            )
    faulty = {fault.image for fault in problems.faults}
    empty = [
        image.relative_to(pairs.root).as_posix()
        for image, masks in pairs.owned.items()
        if masks and image not in drawn | faulty and folders.get(image) in masked
    ]
    return [*warnings, *name_warnings("images have an empty mask though their folder is a class of instances", empty)]


def _count(pairs: MaskPairs, folders: Mapping[Path, str], with_mask: bool = False) -> Counter[str]:
    """Count the images or masks of each class."""
    files = (path for image, masks in pairs.owned.items() if masks or not with_mask for path in (image, *masks))
    return Counter(folders[path] for path in files if path in folders)


def _image_classes(files: Mapping[Path, FolderFile], images: Iterable[Path], wanted: bool | None) -> dict[Path, str]:
    """Determine the class of each image from its folder.

    Args:
        files: files of `MaskPairs`.
        images: the images among them.
        wanted: whether the folders are classes; None: if there are two to twenty of them, beside splits, with names
            without digits and two or more images each.

    Returns:
        The innermost folder of each image that is neither a split nor a file format; empty if the folders are not
        classes.
    """
    shown: dict[str, str] = {}
    of_image: dict[Path, list[str]] = {}
    for path in images:
        file = files[path]
        names = [(key, name) for key, name in zip(file.group, file.shown, strict=True) if not _is_no_class(key)]
        of_image[path] = [shown.setdefault(key, name) for key, name in names]
    counts = Counter(names[-1] for names in of_image.values() if names)
    if wanted is None:
        wanted = (
            2 <= len(counts) <= _MOST_CLASSES
            and all(len(names) == 1 for names in of_image.values())
            and not any(re.search(r"\d", name) for name in counts)
            and min(counts.values()) >= 2
        )
    return {path: names[-1] for path, names in of_image.items() if names} if wanted else {}


def _is_no_class(key: str) -> bool:
    return key in _FORMATS or not SPLIT_FOLDERS.isdisjoint(key.split())


def _mask_classes(pairs: MaskPairs) -> dict[Path, str]:
    """Determine the class of each mask from its folder, where images have masks in two to twenty folders.

    As `lung masks` and `infection masks`. Where masks add words to the names of images, as `a_lung.png` and
    `a_heart.png`, these are the classes. `left` and `right` are sides of one class.

    Returns:
        The folder of each mask without the words that say `mask`, or its words; empty if they are not classes.
    """
    found: dict[Path, str] = {}
    several = False
    for image, masks in pairs.owned.items():
        for mask in masks:
            folder = mask.parent.name
            role, rest = folder_role(folder)
            words = rest.split()
            if added := pairs.added.get(mask):
                folder, role, words = added, None, added.split()
            elif mask.parent == image.parent or folder == image.stem or _is_no_class(rest):
                words = []
            kept = [word for word in words if word not in _SIDES]
            telling = " ".join(kept) if any(len(word) > 2 and word.isalpha() for word in kept) else folder
            found[mask] = (telling if role or kept != words else folder) if kept else ""
        several |= len({found[mask] for mask in masks}) > 1
    names = Counter(found.values())
    if not several or not 2 <= len(names) <= _MOST_CLASSES:
        return {}
    return {mask: name or pairs.added.get(mask, mask.parent.name) for mask, name in found.items()}
