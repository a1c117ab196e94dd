"""Write data sets of phantoms atomically, and reuse those that exist."""

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
    """Describe a kind of phantom.

    Attributes:
        make: (number, seed) → that many items for `write`: images, or volumes with one per patient.
        class_names: names of the class ids from 1.
        description: text in the annotation files, so that nobody mistakes the images for patients.
        version: increases when the same seed gives other images.
        write: (items, class names, existing empty folder, description) → files in a common format.
        reader: reader of `mrcnn.data.read_dataset` for these files.
        patient_pattern: regular expression for the patient in the file name, for formats without a patient field.
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
            "volumes",
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
    """Write `images` phantoms to `folder` for `mrcnn.data.read_dataset` with the kind's reader; return the folder.

    The files are written to a temporary folder that is renamed, so the data set is complete or absent, also with
    concurrent processes. A complete data set of the same kind, number, seed and version is reused; other phantoms in
    `folder` are replaced.

    Raises:
        InputError: `kind` is unknown, `images` is less than 1, or `folder` contains other files than phantoms.
    """
    folder = Path(folder)
    if kind not in PHANTOM_KINDS:
        raise InputError(f"phantoms={kind!r}: expected one of {', '.join(sorted(PHANTOM_KINDS))}")
    if images < 1 or seed < 0:
        raise InputError(f"phantoms={kind}: images={images}, seed={seed}; expected at least 1 image and a seed from 0")
    phantom = PHANTOM_KINDS[kind]
    stamp = {"kind": kind, "images": images, "seed": seed, "version": phantom.version}

    def write(fresh: Path) -> None:
        phantom.write(phantom.make(images, seed), phantom.class_names, fresh, phantom.description)

    return _write(folder, stamp, write)


def write_films(folder: Path, *, images: int, seed: int) -> Path:
    """Write the chest phantoms with one mask of both lungs per image: `images`, `masks` and `index.csv`."""
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
    """Move the data set to `folder`, unless another process has written the same data set there."""
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
