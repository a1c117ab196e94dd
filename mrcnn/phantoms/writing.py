"""Data sets of phantoms: made once, complete or not at all, and found again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mrcnn.data.sample import Sample
from mrcnn.errors import InputError
from mrcnn.phantoms import brain, thyroid, via_file
from mrcnn.phantoms.coco_file import write_coco
from mrcnn.phantoms.via_file import write_via

_STAMP = "phantom.json"
_FORMS = MappingProxyType(
    {
        "coco": (write_coco, ("annotations.json",)),
        "via": (write_via, tuple(f"{folder}/{via_file.NAME}" for folder in via_file.FOLDERS)),
    }
)
"""How to write each form, and the files that hold its annotations."""


@dataclass(frozen=True)
class PhantomKind:
    """One kind of phantom.

    Attributes:
        make: (images, seed) → that many samples.
        class_names: what the class ids of the samples mean, from 1.
        description: stands in the data set's own file, so that nobody takes it for patients.
        version: rises when the same seed gives other pictures.
        form: `coco` or `via`, as people have such images.
        patient_pattern: what the reader of a form that names no patient searches in the file name.
    """

    make: Callable[[int, int], Iterator[Sample]]
    class_names: tuple[str, ...]
    description: str
    version: int
    form: str = "coco"
    patient_pattern: str | None = None


PHANTOM_KINDS: Mapping[str, PhantomKind] = MappingProxyType(
    {
        "thyroid": PhantomKind(
            thyroid.make_images,
            thyroid.CLASS_NAMES,
            "Synthetic thyroid ultrasound phantoms; not patients",
            thyroid.VERSION,
        ),
        "brain_tumor": PhantomKind(
            brain.make_images,
            brain.CLASS_NAMES,
            "Synthetic brain MRI phantoms; not patients",
            brain.VERSION,
            form="via",
            patient_pattern=r"---(\d+)-",
        ),
    }
)


def write_dataset(kind: str, folder: Path, *, images: int, seed: int) -> Path:
    """A folder with `images` phantoms, in the form of their kind, for `mrcnn.data.read_dataset`.

    It is written beside its place and renamed, so it is complete or absent, also when several processes ask for it at
    once. A complete set of the same kind, number, seed and version is returned as it is; another set of phantoms in its
    place is replaced.

    Raises:
        InputError: an unknown kind, no image asked for, or `folder` holds something that is no set of phantoms.
    """
    folder = Path(folder)
    if kind not in PHANTOM_KINDS:
        raise InputError(f"phantoms={kind!r}: expected one of {', '.join(sorted(PHANTOM_KINDS))}")
    if images < 1 or seed < 0:
        raise InputError(f"phantoms={kind}: images={images}, seed={seed}; expected at least 1 image and a seed from 0")
    made = PHANTOM_KINDS[kind]
    stamp = {"kind": kind, "images": images, "seed": seed, "version": made.version}
    if _is_complete(folder, stamp):
        return folder
    if folder.exists() and not (folder / _STAMP).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something else than phantoms; expected an empty or a new folder")

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        write, _ = _FORMS[made.form]
        write(made.make(images, seed), made.class_names, fresh, made.description)
        (fresh / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")
        _put(fresh, folder, Path(scratch) / "old", stamp)
    return folder


def _put(fresh: Path, folder: Path, old: Path, stamp: dict) -> None:
    """Moves the set to its place; when another process put the same set there meanwhile, that one stays."""
    if _is_complete(folder, stamp):
        return
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if not _is_complete(folder, stamp):
            raise


def _is_complete(folder: Path, stamp: dict) -> bool:
    try:
        found = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    _, annotations = _FORMS[PHANTOM_KINDS[stamp["kind"]].form]
    pictures = sum(1 for _ in folder.glob("*/*.png"))
    return found == stamp and all((folder / name).is_file() for name in annotations) and pictures == stamp["images"]
