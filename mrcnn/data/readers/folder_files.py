"""List the files below a folder with what the names of their folders say: images, masks, and a group."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mrcnn.data.io.images import is_dicom_file
from mrcnn.data.io.label_images import LABEL_SUFFIXES
from mrcnn.data.readers.image_files import IMAGE_SUFFIXES, compose_unicode, walk_folders

MASK_FOLDERS = frozenset(
    "mask masks msk gt groundtruth groundtruths truth label labels annotation annotations annot anno seg segs "
    "segmentation segmentations target targets manual".split()
)
IMAGE_FOLDERS = frozenset("image images img imgs picture pictures scan scans frame frames original originals raw "
                          "input inputs".split())  # fmt: skip
SPLIT_FOLDERS = frozenset("train training tr val valid validation dev test testing ts trainval".split())
_WITH_BOTH = frozenset({"and", "with", "without", "no"})  # `set_with_GT` holds images, `lung_and_lobe_mask` does not

Group = tuple[str, ...]


@dataclass(frozen=True)
class FolderFile:
    """Hold a file below the root.

    Attributes:
        stem: name without suffix, in composed Unicode.
        group: normalized names of its folders without `images`, `masks` and the folders that all files share.
        shown: the same names as written.
        role: `image` or `mask` if the name of a folder tells, else None.
        is_bare_dicom: whether it is a DICOM file without suffix, as scanners write them.
    """

    path: Path
    stem: str
    group: Group
    shown: Group
    role: str | None
    is_bare_dicom: bool = False

    @property
    def is_image(self) -> bool:
        """Check for an image, by its suffix or as DICOM without one."""
        return self.is_bare_dicom or self.is_a(IMAGE_SUFFIXES)

    def is_a(self, suffixes: Sequence[str]) -> bool:
        """Check the suffix of the file name."""
        return self.path.name.lower().endswith(tuple(suffixes))


def scan_folder(root: Path) -> Iterator[FolderFile]:
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
        bare = _is_bare_dicom(path)
        yield FolderFile(
            path,
            compose_unicode(path.name if bare else path.stem),
            tuple(key for key, _ in group if key),
            tuple(shown for key, shown in group if key),
            next((role for role, _ in reversed(roles) if role), None),
            bare,
        )


def _is_bare_dicom(path: Path) -> bool:
    # The numbers of a UID look like a suffix.
    if (path.suffix and not path.suffix[1:].isdigit()) or path.name.upper() == "DICOMDIR":
        return False
    with suppress(OSError):
        return is_dicom_file(path)
    return False


def folder_role(name: str) -> tuple[str | None, str]:
    """Return whether the name of a folder says `image` or `mask`, or None, and its other words."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", compose_unicode(name))
    words = re.findall(r"[^\W\d_]+|\d+", spaced.casefold().replace("ground truth", "groundtruth"))
    words = " ".join(words).replace("ground truth", "groundtruth").split()
    both = _WITH_BOTH & set(words)
    if not both or (both == {"and"} and IMAGE_FOLDERS.isdisjoint(words)):
        for place in (len(words) - 1, 0):
            for role, known in (("mask", MASK_FOLDERS), ("image", IMAGE_FOLDERS)):
                if words and words[place] in known:
                    return role, " ".join(words[:place] + words[place + 1 :])
    return None, " ".join(words) or name
