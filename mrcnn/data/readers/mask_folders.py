"""Find the images and masks of a folder, and pair them by the names of files and folders.

Folders whose name says `masks`, `GT`, `labels`, … hold masks; those called `images`, `img`, … hold images. In other
folders the name of a file decides: `a_mask.png`, `a-seg.png` and `mask_a.png` are masks of `a.png`. The other folders
in the path of a file, such as a split, a patient or a class, are its group. A mask belongs to an image of its group.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from mrcnn.data.io.label_images import LABEL_SUFFIXES, LOSSY_SUFFIXES
from mrcnn.data.problems import Problems, summarize_names
from mrcnn.data.readers.folder_files import SPLIT_FOLDERS, FolderFile, Group, folder_role, scan_folder
from mrcnn.data.readers.image_files import compose_unicode
from mrcnn.errors import counted

_MASK_WORD = (
    "mask|masks|msk|seg|segm|segmentation|label|labels|gt|groundtruth|ground_truth|anno|annotation|annotations|manual"
)
_IMAGE_WORD = "image|img|picture|scan|frame|original|orig|raw|input"
_SUFFIX = re.compile(rf"(?P<core>.+?)(?P<affix>[ _.\-]+(?:{_MASK_WORD}))(?:[ _.\-]?\d+)?", re.IGNORECASE)
_PREFIX = re.compile(rf"(?P<affix>(?:{_MASK_WORD})[ _.\-]+)(?P<core>.+)", re.IGNORECASE)
_GLUED = re.compile(rf"(?P<affix>{_MASK_WORD})(?P<core>\d+)", re.IGNORECASE)
_IMAGE_NAMES = (
    re.compile(rf"(?:{_IMAGE_WORD})(?:[ _.\-]+(.+)|(\d+))", re.IGNORECASE),
    re.compile(rf"(.+?)[ _.\-]+(?:{_IMAGE_WORD})", re.IGNORECASE),
)
_NUMBER = re.compile(r"_\d+$")
_ADDITION = re.compile(r"(.+?)([ _.\-]+[^\W_]*[^\W\d_][^\W_]*)")
_ADDED_WORD = re.compile(r"(.+)[ _.\-]+([^\W\d_]+)")
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[\W_]+")

Key = TypeVar("Key", str, Group)


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
        left_out: warnings about pictures that count neither as image nor as mask.
        added: words that the name of a mask adds to that of its image, as `left lung`, where all of its folder do.
    """

    root: Path
    suffix: str | None = None
    owned: dict[Path, list[Path]] = field(default_factory=dict)
    files: dict[Path, FolderFile] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    added: dict[Path, str] = field(default_factory=dict)
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
            elif file.is_a((*LABEL_SUFFIXES, *LOSSY_SUFFIXES)):
                if owner is None:
                    orphans[self._group_of_images(file)].append(file)
                    continue
                self.files[file.path] = file
                self.owned[owner.path].append(file.path)
                of_rule[found.rule].add(owner.path)
            elif owner is not None:
                problems.add_skippable(
                    f"{self.where(file)}: no mask of this kind is read; expected PNG, TIFF, BMP, GIF or NPY", owner.path
                )
            elif file.role == "mask":
                self.passed.append(self.where(file))
        self._rules.update({rule: len(images) for rule, images in of_rule.items()})
        self._leave_out_companions()
        self._leave_out_splits()
        images = [image for image in images if image.path in self.owned]
        for group, files in orphans.items():
            self._report_orphans(files, [image for image in images if image.group == group] or images, problems)

    def _leave_out_companions(self) -> None:
        """Leave out pictures named after an image with a mask and a word, as `a_superpixels.png` beside `a.jpg`."""
        named = {(path.parent, self.files[path].stem): masks for path, masks in self.owned.items()}
        of_word: dict[str, list[tuple[Path, bool]]] = defaultdict(list)
        for path, masks in self.owned.items():
            match = _ADDITION.fullmatch(self.files[path].stem)
            if match and (path.parent, match[1]) in named:
                of_word[match[2]].append((path, not masks and bool(named[path.parent, match[1]])))
        told = ((path, self.files[path]) for path, masks in self.owned.items() if masks)
        with_role = {(path.parent.parent, file.stem) for path, file in told if file.role}
        beside = [
            path
            for path, masks in self.owned.items()
            if not masks and not (file := self.files[path]).role and (path.parent.parent, file.stem) in with_role
        ]
        if beside:
            self._leave_out(beside, "pictures beside the folder of images have the name of an image and are left out")
        for word, found in of_word.items():
            if len(found) > 1 and all(is_companion for _, is_companion in found):
                text = f"pictures are named as an image with a mask and {word}; they are no images and are left out"
                self._leave_out([path for path, _ in found], text)

    def _leave_out_splits(self) -> None:
        """Leave out the images of a split without any mask, such as the test images of a challenge."""
        of_split: dict[str | None, list[Path]] = defaultdict(list)
        for path in self.owned:
            words = " ".join(self.files[path].group).split()
            of_split[next((word for word in words if word in SPLIT_FOLDERS), None)].append(path)
        bare = {split: not any(self.owned[path] for path in paths) for split, paths in of_split.items()}
        for split, paths in of_split.items():
            if split and bare[split] and not all(bare.values()):
                text = f"images of the split {split}, which has no masks at all, are not annotated and are left out"
                self._leave_out(paths, text)

    def _leave_out(self, paths: list[Path], text: str) -> None:
        for path in paths:
            del self.owned[path]
        self.left_out.append(summarize_names(text, [self.where(self.files[path]) for path in paths]))

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
        more = f"; {counted(several, 'image has', 'images have')} several masks" if several else ""
        return [
            f"pairs {counted(count, 'image')} with masks by {rule}{more}"
            for rule, count in sorted(self._rules.items())
            if rule
        ]

    def where(self, file: FolderFile) -> str:
        """Return the path below the root."""
        return file.path.relative_to(self.root).as_posix()

    @cached_property
    def _sorted_files(self) -> tuple[list[FolderFile], list[FolderFile], list[FolderFile]]:
        """Return images, masks and other files."""
        files = list(scan_folder(self.root))
        readable = {file.path for file in files if file.is_image or file.is_a((*LABEL_SUFFIXES, *LOSSY_SUFFIXES))}
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
            elif file.is_image:
                images.append(file)
            else:
                self.passed.append(self.where(file))
        return images, masks, others

    @cached_property
    def _by_name(self) -> dict[str, list[FolderFile]]:
        """Return images by stem."""
        return _grouped((image.stem, image) for image in self._sorted_files[0])

    @cached_property
    def _by_core(self) -> dict[str, list[FolderFile]]:
        """Return images by stem without words such as `image_`."""
        return _grouped((core, image) for image in self._sorted_files[0] for core in _image_cores(image.stem))

    @cached_property
    def _by_group(self) -> dict[Group, list[FolderFile]]:
        return _grouped((image.group, image) for image in self._sorted_files[0])

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
        if owner := self._by_common_affixes.get(file.path):
            return owner
        if found := self._by_added_words.get(file.path):
            self.added[file.path] = found[1]
            return _Owner(found[0], "names that add a word to that of the image")
        group = self._by_group.get(file.group, [])
        return _Owner(group if len(group) == 1 and file.role == "mask" else [])

    @cached_property
    def _by_common_affixes(self) -> dict[Path, _Owner]:
        """Return the images of masks whose names differ by what all names of their folders begin and end with.

        As `bus_1.png` and `mask_1.png`, or `21_training.tif` and `21_manual1.gif`. The rule holds for all masks of a
        folder or for none.
        """
        of_folder: dict[Path, list[FolderFile]] = defaultdict(list)
        for file in self._sorted_files[1]:
            if file.role == "mask":
                of_folder[file.path.parent].append(file)
        found: dict[Path, _Owner] = {}
        of_group: dict[Group, tuple[list[str], tuple[str, str]]] = {}
        for masks in of_folder.values():
            group = self._group_of_images(masks[0])
            images = self._by_group.get(group, self._sorted_files[0])
            if group not in of_group:
                of_group[group] = _without_common_affixes([image.stem for image in images])
            cores, image_affixes = of_group[group]
            mask_cores, affixes = _without_common_affixes([mask.stem for mask in masks])
            by_core = dict(zip(cores, images, strict=True))
            if len(by_core) == len(images) > 1 < len(masks) and set(mask_cores) <= set(by_core):
                rule = f"names without {_shown(image_affixes)} of images and {_shown(affixes)} of masks"
                found |= {
                    mask.path: _Owner([by_core[core]], rule) for mask, core in zip(masks, mask_cores, strict=True)
                }
        return found

    @cached_property
    def _by_added_words(self) -> dict[Path, tuple[list[FolderFile], str]]:
        """Return the images of masks whose names add one or two words, as `a_left.png` and `a_heart_mask.png`.

        The rule holds for all masks of a folder or for none.
        """
        of_folder: dict[Path, dict[Path, tuple[list[FolderFile], str] | None]] = defaultdict(dict)
        for file in self._sorted_files[1] if self.suffix is None else ():
            of_folder[file.path.parent][file.path] = self._without_words(file)
        return {path: each for of in of_folder.values() if all(of.values()) for path, each in of.items() if each}

    def _without_words(self, file: FolderFile) -> tuple[list[FolderFile], str] | None:
        cores = [core for core, _ in self._cores(file)]
        if not self._by_name.keys().isdisjoint(cores):
            return None
        for core in reversed(cores):  # those without `mask` and numbers first
            words: list[str] = []
            while core not in self._by_name and len(words) < 2 and (match := _ADDED_WORD.fullmatch(core)):
                core, words = match[1], [match[2], *words]
            if words and len(found := self._in_group(file, self._by_name.get(core, ()))) == 1:
                return found, " ".join(words)
        return None

    def _in_group(self, file: FolderFile, images: Iterable[FolderFile]) -> list[FolderFile]:
        """Select the images of the mask's group; of the folder beside its own, or all, if its group has no images."""
        images = [image for image in images if image.path != file.path]
        images = [image for image in images if image.role] or images  # a folder beside `images` holds others
        group = self._group_of_images(file)
        if group in self._by_group:
            return [image for image in images if image.group == group]
        beside = file.path.parent.parent
        return [image for image in images if image.path.parent.parent == beside] or images

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


def _grouped(images: Iterable[tuple[Key, FolderFile]]) -> dict[Key, list[FolderFile]]:
    found: dict[Key, list[FolderFile]] = defaultdict(list)
    for key, image in images:
        found[key].append(image)
    return found


def _without_common_affixes(stems: Sequence[str]) -> tuple[list[str], tuple[str, str]]:
    """Return names without the words, numbers and separators that all begin and end with, and these two affixes."""
    tokens = [_TOKEN.findall(stem) for stem in stems]
    shortest = min(map(len, tokens), default=0)
    first = next((n for n in range(shortest) if len({each[n] for each in tokens}) > 1), shortest)
    last = next((n for n in range(shortest - first) if len({each[-1 - n] for each in tokens}) > 1), shortest - first)
    cores = ["".join(each[first : len(each) - last]) for each in tokens]
    some = tokens[0] if tokens else []
    return cores, ("".join(some[:first]), "".join(some[len(some) - last :]))


def _shown(affixes: tuple[str, str]) -> str:
    begin, end = affixes
    return " and ".join(text for text in (begin and f"{begin}…", end and f"…{end}") if text) or "any addition"


def _image_cores(stem: str) -> list[str]:
    """Return the name of an image without words such as `image_`, if it has any."""
    matches = (pattern.fullmatch(stem) for pattern in _IMAGE_NAMES)
    return [next(filter(None, match.groups())) for match in matches if match]
