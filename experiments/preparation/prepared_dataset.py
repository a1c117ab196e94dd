"""Write a dataset of chest radiographs with left and right lungs, atomically, with a report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.evaluation.artifacts import csv_text
from experiments.findings.lung_sides import Sides, sides_of
from experiments.preparation.chest_xrays import Film
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.io.label_images import read_label_image
from mrcnn.data.readers.mask_checks import MaskChecks
from mrcnn.data.readers.orientation import align_to_image
from mrcnn.data.writers.coco import CocoFile
from mrcnn.errors import InputError, counted
from mrcnn.inference.drawing import contact_sheet, overlay
from mrcnn.instance_masks import Crop, InstanceMasks

CLASS_NAMES = ("left_lung", "right_lung")
NOTICE = "Research use only"
REPORT = "report.json"
MAX_PICTURES = 24
"""Images of each kind, undecided and decided, on the contact sheet."""

_THUMBNAIL = 256

Decided = tuple[Film, np.ndarray, Sides, np.ndarray]
"""A film, its image (H, W, C), its sides, and its mask (H, W) bool."""


@dataclass
class Prepared:
    """The result for a set of films.

    Attributes:
        folder: the dataset.
        rows: of the report, one for each film.
    """

    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Count the films by result."""
        results = Counter(row["result"] for row in self.rows)
        return {
            "films": len(self.rows),
            **{name: results[name] for name in ("both", "left", "right", "undecided")},
            "parted": sum(row["joined"] for row in self.rows),
        }

    def text(self) -> str:
        """Format the result for the terminal."""
        count = self.counts()
        lines = [
            f"{counted(count['films'], 'film')}: both lungs {count['both']}, "
            f"one lung {count['left'] + count['right']}, undecided and left out {count['undecided']}; "
            f"joined lungs parted: {count['parted']}"
        ]
        reasons = Counter(row["reason"] for row in self.rows if row["reason"])
        lines += [f"  {number} × {reason}" for reason, number in reasons.most_common()]
        lines.append(f"Written to {self.folder}; look at sides.png, and at {REPORT} for each film")
        lines.append(f"Train on it with mrcnn train --task lung --dataset {self.folder}")
        return "\n".join([*lines, NOTICE])


def decide_sides(
    films: Iterable[Film], mask_of: Callable[[Film, np.ndarray], np.ndarray], mirrored: bool
) -> Iterator[Decided]:
    """Decide the sides of the lungs of each film; without a clear hanging there are none.

    Args:
        films: the films.
        mask_of: returns the mask (H, W) bool of both lungs of a film and its image (H, W, C).
        mirrored: whether a film without a recorded orientation is mirrored.
    """
    for film in films:
        image = read_image(film.image)
        mask = mask_of(film, image)
        hangs_mirrored, doubt = film.hanging(mirrored)
        yield film, image, Sides(doubt=doubt) if doubt else sides_of(mask, mirrored=hangs_mirrored), mask


def read_lung_mask(checks: MaskChecks, film: Film, image: np.ndarray) -> np.ndarray:
    """Read the mask file of a film, cleaned by `checks`.

    Returns:
        (H, W) bool, True where the mask file is not 0.

    Raises:
        InputError: the file is not a mask, has another size than the image, or has blended edges.
    """
    if film.mask is None:
        raise InputError(f"{film.image}: expected a mask of both lungs")
    labels = read_label_image(film.mask)
    row = {"height": image.shape[0], "width": image.shape[1], "orientation": read_header(film.image).orientation}
    mask = checks.clean(align_to_image(labels, row, str(film.mask)), film.mask.name, labels.from_alpha) > 0
    for _ in checks.record_instances([(1, Crop(0, 0, mask))], mask.shape, film.mask.name):
        pass
    return mask


def write_prepared(decided: Iterable[Decided], films: Sequence[Film], folder: Path) -> Prepared:
    """Write `images/`, `annotations.json` (COCO), the report and the contact sheet of the decided ones of `films`.

    `folder` is new, empty, or an earlier result, which is replaced.

    Raises:
        InputError: `folder` contains other files, or no film has a side.
    """
    if folder.exists() and not (folder / REPORT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {folder}: contains other files; expected a new folder, or one that prepare wrote")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        fresh, prepared = Path(scratch, "fresh"), Prepared(folder)
        _write(decided, films, fresh, prepared)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)
    return prepared


def _write(decided: Iterable[Decided], films: Sequence[Film], folder: Path, prepared: Prepared) -> None:
    all_in_images = all(film.name.startswith("images/") for film in films)
    file, undecided, shown = CocoFile(CLASS_NAMES, f"Lungs by side, prepared by medmrcnn. {NOTICE}"), [], []
    images = file.content["images"]
    for film, image, sides, mask in decided:
        masks = {
            name: side for name, side in zip(CLASS_NAMES, (sides.left, sides.right), strict=True) if side is not None
        }
        prepared.rows.append(_row(film, sides, masks))
        if not masks:
            if len(undecided) < MAX_PICTURES:
                undecided.append(_thumbnail(image, masks, mask))
            continue
        if len(images) % -(-len(films) // MAX_PICTURES) == 0:
            shown.append(_thumbnail(image, masks, mask))
        name = film.name if all_in_images else f"images/{film.name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(film.image, folder / name)
        file.add_image(name, *mask.shape, **film.facts)
        class_ids = [CLASS_NAMES.index(class_name) + 1 for class_name in masks]
        file.add_masks(InstanceMasks.from_array(np.stack(list(masks.values()))), class_ids)
    if not images:
        raise InputError(
            f"{counted(len(prepared.rows), 'film')}: sides were decided for none; {prepared.rows[0]['reason']}"
        )
    (folder / "annotations.json").write_text(json.dumps(file.content), encoding="utf-8")
    report = {"notice": NOTICE, "counts": prepared.counts(), "films": prepared.rows}
    (folder / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")
    (folder / "report.csv").write_text(csv_text(prepared.rows), encoding="utf-8")
    Image.fromarray(contact_sheet(undecided + shown, columns=6)).save(folder / "sides.png")


def _row(film: Film, sides: Sides, masks: dict[str, np.ndarray]) -> dict[str, Any]:
    names = [name.removesuffix("_lung") for name in masks]
    return {
        "image": film.name,
        "result": "both" if len(names) == 2 else names[0] if names else "undecided",
        "joined": sides.joined,
        "pieces_left_out": sides.left_out,
        "reason": sides.doubt or "",
    }


def _thumbnail(image: np.ndarray, masks: dict[str, np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Draw a thumbnail with left and right in their colors, or the undecided mask in a third color."""
    names = (*CLASS_NAMES, "undecided")
    shown = masks or ({"undecided": mask} if mask.any() else {})
    class_ids = np.array([names.index(name) + 1 for name in shown], np.int32)
    stack = np.stack(list(shown.values())) if shown else np.zeros((0, *mask.shape), bool)
    picture = Image.fromarray(overlay(image, stack, class_ids, names))
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    return np.array(picture)
