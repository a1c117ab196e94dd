"""Find the images and masks of a folder, and pair them by the names of files and folders.

Folders whose name says `masks`, `GT`, `labels`, … hold masks; those called `images`, `img`, … hold images. In other
folders the name of a file decides: `a_mask.png`, `a-seg.png` and `mask_a.png` are masks of `a.png`. The other folders
in the path of a file, such as a split, a patient or a class, are its group. A mask belongs to an image of its group.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mrcnn.data.io.label_images import LABEL_SUFFIXES, LOSSY, LOSSY_SUFFIXES
from mrcnn.data.problems import Problems
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, compose_unicode, walk_folders

MASK_FOLDERS = frozenset(
    "mask masks gt groundtruth groundtruths truth label labels annotation annotations annot seg segs segmentation "
    "segmentations target targets".split()
)
IMAGE_FOLDERS = frozenset("image images img imgs picture pictures scan scans frame frames original originals raw "
                          "input inputs".split())  # fmt: skip
SPLIT_FOLDERS = frozenset("train training tr val valid validation dev test testing ts trainval".split())
_WITH_BOTH = frozenset({"and", "with", "without", "no"})  # `set_with_GT` holds images, too
_MASK_WORD = "mask|masks|seg|segm|segmentation|label|labels|gt|groundtruth|ground_truth|annotation|annotations"
_IMAGE_WORD = "image|img|picture|scan|frame|original|orig|raw|input"
_SUFFIX = re.compile(rf"(?P<core>.+?)(?P<affix>[ _.\-]+(?:{_MASK_WORD}))(?:[ _.\-]?\d+)?", re.IGNORECASE)
_PREFIX = re.compile(rf"(?P<affix>(?:{_MASK_WORD})[ _.\-]+)(?P<core>.+)", re.IGNORECASE)
_GLUED = re.compile(rf"(?P<affix>{_MASK_WORD})(?P<core>\d+)", re.IGNORECASE)
_IMAGE_NAMES = (
    re.compile(rf"(?:{_IMAGE_WORD})(?:[ _.\-]+(.+)|(\d+))", re.IGNORECASE),
    re.compile(rf"(.+?)[ _.\-]+(?:{_IMAGE_WORD})", re.IGNORECASE),
)
_NUMBER = re.compile(r"_\d+$")

Group = tuple[str, ...]


@dataclass(frozen=True)
class FolderFile:
    """Hold a file below the root.

    Attributes:
        stem: name without suffix, in composed Unicode.
        group: normalized names of its folders without `images`, `masks` and the folders that all files share.
        shown: the same names as written.
        role: `image` or `mask` if the name of a folder tells, else None.
    """

    path: Path
    stem: str
    group: Group
    shown: Group
    role: str | None

    def is_a(self, suffixes: Sequence[str]) -> bool:
        """Check the suffix of the file name."""
        return self.path.name.lower().endswith(tuple(suffixes))


@dataclass(frozen=True)
class _Owner:
    images: list[FolderFile]  # several: ambiguous
    rule: str = ""


@dataclass
class MaskPairs:
    """Pair the images and masks below a folder.

    Args:
        root: folder of the data set.
        suffix: the only suffix of mask names, or None for all known ones.

    Attributes:
        owned: masks by image.
        files: each file of `owned` by path.
        passed: files that are neither images nor masks.
    """

    root: Path
    suffix: str | None = None
    owned: dict[Path, list[Path]] = field(default_factory=dict)
    files: dict[Path, FolderFile] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    _rules: Counter[str] = field(default_factory=Counter)

    def find(self, problems: Problems) -> None:
        """Fill `owned`, `files` and `passed`; masks without an image and ambiguous ones become problems."""
        images, masks, others = self._sorted_files
        for image in images:
            self.files[image.path] = image
            self.owned[image.path] = []
        self.passed += [self.where(file) for file in others if file.role == "image"]
        self._report_equal_names(problems)
        orphans: dict[Group, list[FolderFile]] = defaultdict(list)
        of_rule: dict[str, set[Path]] = defaultdict(set)
        for file in [*masks, *(file for file in others if file.role != "image")]:
            found = self._owner(file)
            owner = found.images[0] if len(found.images) == 1 else None
            if len(found.images) > 1:
                self._report_ambiguous(file, found.images, problems)
            elif file.is_a(LABEL_SUFFIXES):
                if owner is None:
                    orphans[self._group_of_images(file)].append(file)
                    continue
                self.files[file.path] = file
                self.owned[owner.path].append(file.path)
                of_rule[found.rule].add(owner.path)
            elif file.is_a(LOSSY_SUFFIXES):
                problems.add_skippable(f"{self.where(file)}: {LOSSY}", owner and owner.path)
            elif owner is not None:
                problems.add_skippable(
                    f"{self.where(file)}: no mask of this kind is read; expected PNG, TIFF, BMP, GIF or NPY", owner.path
                )
            elif file.role == "mask":
                self.passed.append(self.where(file))
        self._rules.update({rule: len(images) for rule, images in of_rule.items()})
        for group, files in orphans.items():
            self._report_orphans(files, [image for image in images if image.group == group] or images, problems)

    def matches(self) -> bool:
        """Check for images with masks, from names alone."""
        images, masks, others = self._sorted_files
        in_masks = [file for file in others if file.role == "mask" and not self._folder_rule(file)]
        if any(file.role == "mask" for file in [*masks, *in_masks]) and any(image.role for image in images):
            return True
        return any(len(self._owner(mask).images) == 1 for mask in masks)

    def notes(self) -> list[str]:
        """Return a line for each rule by which masks were found, except files of one name in `images` and `masks`."""
        several = sum(len(masks) > 1 for masks in self.owned.values())
        more = f"; {several} images have several masks" if several else ""
        return [
            f"pairs {count} image{'s' if count > 1 else ''} with masks by {rule}{more}"
            for rule, count in sorted(self._rules.items())
            if rule
        ]

    def where(self, file: FolderFile) -> str:
        """Return the path below the root."""
        return file.path.relative_to(self.root).as_posix()

    @cached_property
    def _sorted_files(self) -> tuple[list[FolderFile], list[FolderFile], list[FolderFile]]:
        """Return images, masks and other files."""
        files = list(_scan(self.root))
        readable = {file.path for file in files if file.is_a((*IMAGE_SUFFIXES, *LABEL_SUFFIXES, *LOSSY_SUFFIXES))}
        in_folders = any(file.role == "mask" and file.path in readable for file in files)
        stems = {
            (file.path.parent, name)
            for file in files
            if file.path in readable
            for name in (file.stem, *_image_cores(file.stem))
        }
        images, masks, others = [], [], []
        for file in files:
            by_name = (file.role is None or not in_folders) and self._is_mask_name(file, stems, in_folders)
            if file.path not in readable:
                others += [file] if file.role is not None or by_name else []
            elif file.role == "mask" or by_name:
                masks.append(file)
            elif file.is_a(IMAGE_SUFFIXES):
                images.append(file)
        return images, masks, others

    @cached_property
    def _by_name(self) -> dict[str, list[FolderFile]]:
        """Return images by stem."""
        found: dict[str, list[FolderFile]] = defaultdict(list)
        for image in self._sorted_files[0]:
            found[image.stem].append(image)
        return found

    @cached_property
    def _by_core(self) -> dict[str, list[FolderFile]]:
        """Return images by stem without words such as `image_`."""
        found: dict[str, list[FolderFile]] = defaultdict(list)
        for image in self._sorted_files[0]:
            for core in _image_cores(image.stem):
                found[core].append(image)
        return found

    @cached_property
    def _by_group(self) -> dict[Group, list[FolderFile]]:
        found: dict[Group, list[FolderFile]] = defaultdict(list)
        for image in self._sorted_files[0]:
            found[image.group].append(image)
        return found

    def _is_mask_name(self, file: FolderFile, stems: set[tuple[Path, str]], has_folders: bool) -> bool:
        """Check for the name of a mask: with an image beside it if the set has folders of masks, or by a prefix."""
        affixed = self._affixed(file.stem) + self._affixed(file.path.name.partition(".")[0])
        beside = any((file.path.parent, core) in stems for core, _ in self._cores(file) if core != file.stem)
        return bool(affixed) and (beside or (not has_folders and any("suffix" in rule for _, rule in affixed)))

    def _affixed(self, stem: str) -> list[tuple[str, str]]:
        """Return (name of the image, rule) for each reading of a stem as name of a mask."""
        if self.suffix is not None:
            match = re.fullmatch(rf"(.+){re.escape(self.suffix)}(_\d+)?", stem)
            return [(match[1], f"the suffix {self.suffix}")] if match else []
        found = []
        if match := _SUFFIX.fullmatch(stem):
            found.append((match["core"], f"the suffix {match['affix']}"))
        for pattern in (_PREFIX, _GLUED):
            if match := pattern.fullmatch(stem):
                found.append((match["core"], f"the prefix {match['affix']}"))
        return found

    def _cores(self, file: FolderFile) -> list[tuple[str, str]]:
        """Return the possible names of the image of a mask with the rule of each, the most exact first."""
        found = []
        for stem in dict.fromkeys((file.stem, compose_unicode(file.path.name.partition(".")[0]))):
            affixed = self._affixed(stem)
            found += [(stem, self._folder_rule(file))]
            found += affixed
            if file.role == "mask":
                found.append((_NUMBER.sub("", stem), self._folder_rule(file)))
            found += [(_NUMBER.sub("", core), rule) for core, rule in affixed]
        return list(dict.fromkeys(found))

    def _folder_rule(self, file: FolderFile) -> str:
        names = file.path.relative_to(self.root).parts[:-1]
        folders = [name for name in names if folder_role(name)[0] == "mask"] if file.role == "mask" else []
        return "" if not folders or folders[-1] == "masks" else f"equal names in the folder {folders[-1]}"

    def _owner(self, file: FolderFile) -> _Owner:
        """Find the image of a mask, or all that it could belong to."""
        if file.role == "mask" and file.group:
            within = [
                image
                for image in self._by_name.get(compose_unicode(file.path.parent.name), ())
                if image.group == file.group[:-1]
            ]
            if len(within) == 1:
                return _Owner(within)
        for names in (self._by_name, self._by_core):
            for core, rule in self._cores(file):
                if found := self._in_group(file, names.get(core, ())):
                    return _Owner(found, rule)
        group = self._by_group.get(file.group, [])
        return _Owner(group if len(group) == 1 and file.role == "mask" else [])

    def _in_group(self, file: FolderFile, images: Iterable[FolderFile]) -> list[FolderFile]:
        """Select the images of the mask's group; of all groups if the mask's group has no images."""
        images = [image for image in images if image.path != file.path]
        group = self._group_of_images(file)
        return [image for image in images if image.group == group] if group in self._by_group else images

    def _group_of_images(self, file: FolderFile) -> Group:
        """Return the group of a mask, without the folders below it that only masks have, such as one for an image."""
        if file.group not in self._by_group and file.group[:-1] in self._by_group:
            return file.group[:-1]
        return file.group

    def _report_equal_names(self, problems: Problems) -> None:
        for images in self._by_name.values():
            for group, count in Counter(image.group for image in images).items():
                if count > 1:
                    last = [image for image in images if image.group == group][-1]
                    problems.add(f"{self.where(last)}: another image is called {last.path.stem}; expected one")

    def _report_ambiguous(self, file: FolderFile, images: Sequence[FolderFile], problems: Problems) -> None:
        names = [self.where(image) for image in images]
        problems.add_skippable(
            f"{self.where(file)}: could be the mask of {names[0]} or of {names[1]}; expected folders or names that "
            "tell which",
            images[0].path,
        )
        for image, name in zip(images[1:], names[1:], strict=True):
            problems.add_skippable(f"{name}: {self.where(file)} could be its mask or that of {names[0]}", image.path)

    def _report_orphans(self, masks: Sequence[FolderFile], images: Sequence[FolderFile], problems: Problems) -> None:
        """Report masks without an image as problems of the image with a similar name, or else of all without a mask."""
        folder = images[0].path.parent.relative_to(self.root).as_posix() if images else "."
        unsure = []
        for mask in masks:
            begins = (
                image for image in images if re.match(rf"{re.escape(image.stem)}(?![0-9A-Za-z])", mask.stem) is not None
            )
            meant = max(begins, key=lambda image: len(image.stem), default=None)
            hint = (
                f"; if it is that of {meant.path.name}, set mask_suffix to what follows the name of the image"
                if meant
                else ""
            )
            problems.add_skippable(f"{self.where(mask)}: no image of that name in {folder}{hint}", meant and meant.path)
            unsure += [] if meant else [mask]
        for image in images if unsure else ():
            if not self.owned[image.path]:
                problems.add_skippable(
                    f"{self.where(image)}: has no mask, yet {self.where(unsure[0])} has no image", image.path
                )


def _scan(root: Path) -> Iterator[FolderFile]:
    """Yield the files below a folder, sorted, except hidden and system files."""
    found: list[tuple[str, ...]] = []
    for folder, names in walk_folders(root):
        parts = Path(folder).relative_to(root).parts
        found += [(*parts, name) for name in names]
    found = sorted(parts for parts in found if root.joinpath(*parts).is_file())
    pictures = [parts[:-1] for parts in found if parts[-1].lower().endswith((*IMAGE_SUFFIXES, *LABEL_SUFFIXES))]
    shared = 0  # folders that all images and masks lie in
    while pictures and all(parts[: shared + 1] == (*pictures[0], None)[: shared + 1] for parts in pictures):
        shared += 1
    while shared and folder_role(pictures[0][shared - 1])[0] and not folder_role(pictures[0][shared - 1])[1]:
        shared -= 1
    for parts in found:
        roles = [folder_role(name) for name in parts[shared:-1]]
        group = [
            (rest, name if role is None else rest) for (role, rest), name in zip(roles, parts[shared:], strict=False)
        ]
        path = root.joinpath(*parts)
        yield FolderFile(
            path,
            compose_unicode(path.stem),
            tuple(key for key, _ in group if key),
            tuple(shown for key, shown in group if key),
            next((role for role, _ in reversed(roles) if role), None),
        )


def _image_cores(stem: str) -> list[str]:
    """Return the name of an image without words such as `image_`, if it has any."""
    matches = (pattern.fullmatch(stem) for pattern in _IMAGE_NAMES)
    return [next(filter(None, match.groups())) for match in matches if match]


def folder_role(name: str) -> tuple[str | None, str]:
    """Return whether the name of a folder says `image` or `mask`, or None, and its other words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", compose_unicode(name))
    words = re.findall(r"[^\W\d_]+|\d+", spaced.casefold().replace("ground truth", "groundtruth"))
    words = " ".join(words).replace("ground truth", "groundtruth").split()
    if not _WITH_BOTH & set(words):
        for place in (len(words) - 1, 0):
            for role, known in (("mask", MASK_FOLDERS), ("image", IMAGE_FOLDERS)):
                if words and words[place] in known:
                    return role, " ".join(words[:place] + words[place + 1 :])
    return None, " ".join(words) or name


def class_folders(files: Mapping[Path, FolderFile], images: Iterable[Path], wanted: bool | None) -> dict[Path, str]:
    """Determine the class of each image from its folder.

    Args:
        files: files of `MaskPairs`.
        images: the images among them.
        wanted: whether the folders are classes; None: if there are two to twenty of them, beside splits, with names
            without digits and two or more images each.

    Returns:
        The innermost folder of each image that is no split; empty if the folders are not classes.
    """
    shown: dict[str, str] = {}
    of_image: dict[Path, list[str]] = {}
    for path in images:
        file = files[path]
        names = [(key, name) for key, name in zip(file.group, file.shown, strict=True) if key not in SPLIT_FOLDERS]
        of_image[path] = [shown.setdefault(key, name) for key, name in names]
    counts = Counter(names[-1] for names in of_image.values() if names)
    if wanted is None:
        wanted = (
            2 <= len(counts) <= 20
            and all(len(names) == 1 for names in of_image.values())
            and not any(re.search(r"\d", name) for name in counts)
            and min(counts.values()) >= 2
        )
    return {path: names[-1] for path, names in of_image.items() if names} if wanted else {}
