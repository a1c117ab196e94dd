r"""Find chest radiographs with their lung masks and metadata for `mrcnn prepare`.

A folder contains `index.csv`, or `images` and `masks`, or only images. The table has a column `image` and may have
`mask`, `patient_id`, `view`, `orientation` (DICOM PatientOrientation, such as L\F), `mirrored` (true or false) and
`license`; others are ignored. In folders a mask has the name of its image with any suffix, or with `_mask`.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from experiments.findings.lung_sides import orientation_of
from mrcnn.data.io.label_images import LABEL_SUFFIXES, LOSSY, LOSSY_SUFFIXES
from mrcnn.data.names import find_patient, normalize_patient_id
from mrcnn.data.problems import Problems
from mrcnn.data.readers.image_files import compose_unicode, files_below
from mrcnn.errors import InputError

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm")
DICOM = (".dcm",)
FRONTAL = ("", "PA", "AP", "AP SUPINE", "AP ERECT", "FRONTAL")
_WORDS = {"": None, "false": False, "no": False, "0": False, "true": True, "yes": True, "1": True}


@dataclass(frozen=True)
class Film:
    """One radiograph.

    Attributes:
        name: path of the image in its folder, with / between folders.
        image: its file.
        mask: file of the lung mask, or None.
        facts: `patient_id`, `view`, `license` if known.
        orientation: DICOM PatientOrientation, or empty.
        mirrored: from the table, or None.
    """

    name: str
    image: Path
    mask: Path | None
    facts: dict[str, str]
    orientation: str = ""
    mirrored: bool | None = None

    def hanging(self, otherwise: bool) -> tuple[bool, str | None]:
        """Return whether the film is mirrored, `otherwise` if unknown; and why it is no upright frontal image."""
        view = self.facts.get("view", "")
        if view.strip().upper() not in FRONTAL:
            return False, f"view {view!r} is not frontal (PA or AP)"
        oriented, doubt = orientation_of(self.orientation)
        said = {each for each in (oriented, self.mirrored) if each is not None}
        if len(said) == 2:
            return False, f"patient orientation {self.orientation!r}, yet mirrored={str(self.mirrored).lower()}"
        return said.pop() if said else otherwise, doubt


def read_films(folder: Path, *, with_masks: bool) -> list[Film]:
    """Find the films of a folder in the order of their names or of the table.

    With `with_masks` each must have a mask; otherwise masks are ignored.

    Raises:
        InputError: lists what is missing.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected images and masks, or index.csv that names them")
    problems = Problems(folder)
    table = folder / "index.csv"
    films = list(
        _of_table(table, with_masks, problems) if table.is_file() else _of_folders(folder, with_masks, problems)
    )
    if not films:
        problems.add(f"no image; expected index.csv, an images folder or files ending in {', '.join(IMAGES)}")
    problems.raise_if_any()
    return films


def _of_table(table: Path, with_masks: bool, problems: Problems) -> Iterator[Film]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read as CSV ({error})") from error
    for column in ("image", "mask") if with_masks else ("image",):
        if column not in columns:
            raise InputError(f"{table}: columns are {', '.join(columns) or 'none'}; expected one called {column}")
    places: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        row = {key: (value or "").strip() for key, value in row.items() if key}
        image = table.parent / row["image"]
        mask = table.parent / row["mask"] if with_masks else None
        for column in ("image", "mask") if with_masks else ("image",):
            file = table.parent / row[column]
            if _leaves(file, table.parent):
                problems.add(f"index.csv line {number}: {row[column]!r} leaves the folder")
            elif not file.is_file():
                problems.add(f"index.csv line {number}: {file.name!r} does not exist")
        _check_mask(mask, f"index.csv line {number}", problems)
        name = os.path.relpath(image, table.parent).replace(os.sep, "/")
        if name in places:
            problems.add(f"index.csv line {number}: {row['image']!r} occurs in line {places[name]} too; expected once")
        places[name] = number
        mirrored = row.get("mirrored", "").lower()
        if mirrored not in _WORDS:
            problems.add(f"index.csv line {number}: mirrored={mirrored!r}; expected true or false")
        facts = {"patient_id": normalize_patient_id(find_patient(row)), "view": row.get("view")}
        facts = {name: fact for name, fact in (facts | {"license": row.get("license")}).items() if fact}
        orientation = row.get("orientation", "") or _orientation_in(image)
        yield Film(name, image, mask, facts, orientation, _WORDS.get(mirrored))


def _of_folders(folder: Path, with_masks: bool, problems: Problems) -> Iterator[Film]:
    images, masks = folder / "images", folder / "masks"
    if with_masks and not (images.is_dir() and masks.is_dir()):
        raise InputError(
            f"{folder}: expected index.csv, or the folders images and masks; for images alone add --model, a lung model"
        )
    by_stem = _masks_by_stem(masks, problems) if with_masks else {}
    root = images if images.is_dir() else folder
    for image in _image_files(root):
        mask = by_stem.get(compose_unicode(image.stem))
        if with_masks and mask is None:
            problems.add(f"images/{image.name} has no mask of that name in masks")
        yield Film(image.relative_to(folder).as_posix(), image, mask, {}, _orientation_in(image))


def _masks_by_stem(folder: Path, problems: Problems) -> dict[str, Path]:
    """Return the masks by the name of their image without suffix."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in (*LABEL_SUFFIXES, *LOSSY_SUFFIXES):
            continue
        stem = compose_unicode(file.stem).removesuffix("_mask")
        if stem in found:
            problems.add(f"masks/{file.name} and masks/{found[stem].name} are masks of one image; expected one")
        found[stem] = file
        _check_mask(file, "folder masks", problems)
    return found


def _check_mask(file: Path | None, where: str, problems: Problems) -> None:
    if file is not None and file.suffix.lower() in LOSSY_SUFFIXES:
        problems.add(f"{where}: {file.name}: {LOSSY}")


def _leaves(file: Path, folder: Path) -> bool:
    """Return whether a path is outside of a folder, as written or by a link."""
    written = Path(os.path.normpath(file))
    return not (written.is_relative_to(os.path.normpath(folder)) and file.resolve().is_relative_to(folder.resolve()))


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in files_below(folder, "*") if file.suffix.lower() in IMAGES)


def _orientation_in(image: Path) -> str:
    """Read PatientOrientation of a DICOM file as text, or return an empty text."""
    if image.suffix.lower() not in DICOM or not image.is_file():
        return ""
    try:
        header = pydicom.dcmread(image, stop_before_pixels=True, specific_tags=["PatientOrientation"])
    except (InvalidDicomError, OSError) as error:
        raise InputError(f"{image}: expected a DICOM file ({error})") from error
    return "\\".join(header.get("PatientOrientation") or [])
