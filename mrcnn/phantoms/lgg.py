"""Generate heads with a low-grade glioma, as color slices with masks in the layout of the LGG data set on Kaggle.

As in that data set, the channels are three sequences: red pre-contrast, green FLAIR, blue post-contrast.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from mrcnn.data.readers.lgg import CLASS_NAMES
from mrcnn.phantoms.head_volume import Tissue, draw_tumor, mri_intensities, paint_head

__all__ = ["CLASS_NAMES", "VERSION", "Case", "make_cases", "write_cases"]

VERSION = 1  # increase whenever the same seed gives other images
SIDE = 128  # pixels
SLICES = (18, 25)
_FIELD_MM, _HEIGHT_MM = 230.0, 150.0
_SHOWN = (Tissue.FLUID, Tissue.GRAY, Tissue.WHITE, Tissue.EDEMA, Tissue.SKULL, Tissue.SCALP)
# Brightness of fluid, gray and white matter, tumor, bone and scalp.
CONTRASTS = (
    (0.16, 0.34, 0.42, 0.30, 0.08, 0.62),
    (0.12, 0.38, 0.33, 0.66, 0.06, 0.45),
    (0.18, 0.36, 0.44, 0.33, 0.08, 0.66),
)


@dataclass(frozen=True)
class Case:
    """Store the patient's `name`, `slices` (S, H, W, 3) uint8 from inferior to superior, and `masks` (S, H, W) bool."""

    name: str
    slices: np.ndarray
    masks: np.ndarray


def make_cases(patients: int, seed: int) -> Iterator[Case]:
    """Generate one head per patient; the first n heads do not depend on `patients`."""
    for number in range(1, patients + 1):
        rng = np.random.default_rng((seed, number))
        count = int(rng.integers(SLICES[0], SLICES[1] + 1))
        spacing = (_HEIGHT_MM / count, _FIELD_MM / SIDE, _FIELD_MM / SIDE)
        tissues = paint_head(rng, (count, SIDE, SIDE), spacing, draw_tumor(rng, high_grade=False), skull=True)
        # The brightness of each sequence differs between patients, and with it the tint.
        images = [
            rng.uniform(0.7, 1.1) * mri_intensities(rng, tissues, dict(zip(_SHOWN, brightness, strict=True)), spacing)
            for brightness in CONTRASTS
        ]
        slices = np.clip(np.rint(255 * np.stack(images, axis=-1)), 0, 255).astype(np.uint8)
        yield Case(f"PHANTOM_{number:03d}", slices, tissues == Tissue.EDEMA)


def write_cases(cases: Iterable[Case], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Write `<case>/<case>_<k>.tif`, `<case>_<k>_mask.tif` and data.csv into an existing folder."""
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(["patient_id", "image_path", "mask_path", "mask"])
        for case in cases:
            (folder / case.name).mkdir()
            for number, (image, mask) in enumerate(zip(case.slices, case.masks, strict=True), start=1):
                names = [f"{case.name}/{case.name}_{number}{end}.tif" for end in ("", "_mask")]
                tifffile.imwrite(
                    folder / names[0], image, photometric="rgb", compression="zlib", description=description
                )
                tifffile.imwrite(folder / names[1], mask.astype(np.uint8) * 255, compression="zlib")
                rows.writerow([case.name, *names, int(mask.any())])
