"""Data sets of phantoms: made once, complete or not at all, and found again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mrcnn.errors import InputError
from mrcnn.phantoms import brain, brats, chest, lgg, thyroid
from mrcnn.phantoms.coco_file import write_coco, write_film_files, write_via

_STAMP = "phantom.json"


@dataclass(frozen=True)
class PhantomKind:
    """One kind of phantom.

    Attributes:
        make: (number, seed) → that many of what `write` takes: images, or patients where a patient is a volume.
        class_names: what the class ids of the samples mean, from 1.
        description: stands in the data set's own file, so that nobody takes it for patients.
        version: rises when the same seed gives other pictures.
        write: (what is made, class names, an existing, empty folder, description) → files, as people have such images.
        reader: of `mrcnn.data.read_dataset` that reads them.
        patient_pattern: what the reader of a form that names no patient searches in the file name.
    """

    make: Callable[[int, int], Iterator[Any]]
    class_names: tuple[str, ...]
    description: str
    version: int
    write: Callable[[Iterator[Any], tuple[str, ...], Path, str], None] = write_coco
    reader: str = "coco"
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
            write_via,
            "via",
            patient_pattern=r"---(\d+)-",
        ),
        "brats": PhantomKind(
            brats.make_cases,
            brats.CLASS_NAMES,
            "Synthetic brain MRI phantom; not a patient",
            brats.VERSION,
            brats.write_cases,
            "brats",
        ),
        "lgg": PhantomKind(
            lgg.make_cases,
            lgg.CLASS_NAMES,
            "Synthetic brain MRI phantom; not a patient",
            lgg.VERSION,
            lgg.write_cases,
            "lgg",
        ),
        "lung": PhantomKind(
            chest.make_images, chest.CLASS_NAMES, "Synthetic chest X-ray phantoms; not patients", chest.VERSION
        ),
    }
)


def write_dataset(kind: str, folder: Path, *, images: int, seed: int) -> Path:
    """A folder with `images` phantoms for `mrcnn.data.read_dataset` with the kind's reader.

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

    def write(fresh: Path) -> None:
        made.write(made.make(images, seed), made.class_names, fresh, made.description)

    return _write(folder, stamp, write)


def write_films(folder: Path, *, images: int, seed: int) -> Path:
    """The same chest phantoms with one mask of both lungs each and no sides: `images`, `masks` and `index.csv`."""
    stamp = {"kind": "films", "images": images, "seed": seed, "version": chest.VERSION}
    return _write(Path(folder), stamp, lambda fresh: write_film_files(chest.make_images(images, seed), fresh))


def _write(folder: Path, stamp: dict, write: Callable[[Path], None]) -> Path:
    if _is_complete(folder, stamp):
        return folder
    if folder.exists() and not (folder / _STAMP).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something else than phantoms; expected an empty or a new folder")

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        fresh.mkdir()
        write(fresh)
        (fresh / _STAMP).write_text(json.dumps({**stamp, "files": _count_files(fresh)}), encoding="utf-8")
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
    return isinstance(found, dict) and found == {**stamp, "files": _count_files(folder) - 1}


def _count_files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())
