"""Generate skull-stripped heads with a glioma in four MRI sequences, as NIfTI files in the layout of BraTS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from mrcnn.data.readers.volumes.brats import REGIONS, label_map
from mrcnn.phantoms.head_volume import Tissue, draw_tumor, mri_intensities, paint_head

CLASS_NAMES = REGIONS
VERSION = 1  # increase whenever the same seed gives other volumes
SHAPE = (24, 96, 96)  # slices, rows, columns
SPACING_MM = (6.0, 2.2, 2.2)
LABEL_CODES = "brats2018"
# Brightness of fluid, gray and white matter, edema, core without and with enhancement.
_SHOWN = (Tissue.FLUID, Tissue.GRAY, Tissue.WHITE, Tissue.EDEMA, Tissue.CORE, Tissue.ENHANCING)
CONTRASTS = {
    "flair": (0.22, 0.56, 0.47, 0.86, 0.62, 0.78),
    "t1": (0.28, 0.55, 0.74, 0.52, 0.40, 0.52),
    "t1ce": (0.22, 0.46, 0.58, 0.44, 0.30, 0.95),
    "t2": (0.98, 0.52, 0.38, 0.80, 0.88, 0.66),
}


@dataclass(frozen=True)
class Case:
    """Store a head.

    Attributes:
        name: name of the case and of the phantom patient.
        volumes: volume of each sequence, (slices, rows, columns) int16, 0 outside the brain.
        labels: (slices, rows, columns) uint8, coded as `LABEL_CODES`.
    """

    name: str
    volumes: dict[str, np.ndarray]
    labels: np.ndarray


def make_cases(patients: int, seed: int) -> Iterator[Case]:
    """Generate one head per patient; the first n heads do not depend on `patients`."""
    for number in range(1, patients + 1):
        rng = np.random.default_rng((seed, number))
        tissues = paint_head(rng, SHAPE, SPACING_MM, draw_tumor(rng, high_grade=True), skull=False)
        volumes = {}
        for name, brightness in CONTRASTS.items():
            image = mri_intensities(rng, tissues, dict(zip(_SHOWN, brightness, strict=True)), SPACING_MM)
            gain = rng.uniform(350, 1500)  # MRI has no unit
            volumes[name] = np.where(tissues > 0, np.maximum(np.rint(gain * image), 1), 0).astype(np.int16)
        tumor = (tissues >= Tissue.EDEMA, tissues >= Tissue.CORE, tissues == Tissue.ENHANCING)
        yield Case(f"phantom_{number:03d}", volumes, label_map(np.stack(tumor), LABEL_CODES))


def write_cases(cases: Iterable[Case], class_names: Sequence[str], folder: Path, description: str) -> None:
    """Write `<case>/<case>_flair.nii.gz`, … and `<case>_seg.nii.gz` into an existing folder."""
    step, row, column = SPACING_MM
    for case in cases:
        (folder / case.name).mkdir()
        for kind, volume in {**case.volumes, "seg": case.labels}.items():
            # Axes of BraTS: first to the left, second to the back, third up.
            image = nibabel.Nifti1Image(volume.transpose(2, 1, 0), np.diag([-column, -row, step, 1]))
            image.header.set_xyzt_units("mm")
            image.header["descrip"] = description
            image.to_filename(folder / case.name / f"{case.name}_{kind}.nii.gz")
