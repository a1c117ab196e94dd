"""Generate a 3-D tissue map of a head with a glioma, and MRI intensities from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.ndimage import gaussian_filter, label

_BRAIN_MM = (62.0, 82.0, 66.0)  # half axes: slices, rows, columns
_SCALP_MM, _SKULL_MM = 5.0, 6.0


class Tissue(IntEnum):
    """Tissue of a voxel."""

    AIR = 0
    FLUID = 1
    GRAY = 2
    WHITE = 3
    EDEMA = 4
    CORE = 5
    ENHANCING = 6
    SKULL = 7
    SCALP = 8


@dataclass(frozen=True)
class Tumor:
    """Describe a glioma.

    Attributes:
        center: (slice, row, column) relative to the middle of the head, in mm.
        radius_mm: radius of the whole tumor.
        core: radius of the core as a fraction of `radius_mm`; 0 for none.
        rim: fraction of the core, from its border inwards, that enhances; 0 for none.
        ragged: irregularity of the border as a fraction of the radius.
    """

    center: tuple[float, float, float]
    radius_mm: float
    core: float
    rim: float
    ragged: float


def draw_tumor(rng: np.random.Generator, *, high_grade: bool) -> Tumor:
    """Draw a tumor in one hemisphere; most high-grade tumors have a ring-enhancing core."""
    side = rng.choice((-1, 1))
    center = (rng.uniform(-22, 26), rng.uniform(-38, 38), side * rng.uniform(22, 36))
    core = rng.uniform(0.55, 0.75) if high_grade else 0.0
    rim = rng.uniform(0.35, 0.65) if high_grade and rng.random() < 0.85 else 0.0
    return Tumor(center, rng.uniform(19, 31), core, rim, rng.uniform(0.12, 0.3))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigmas: tuple[float, ...]) -> np.ndarray:
    """Draw normalized Gaussian noise, smoothed with `sigmas` voxels along each axis."""
    noise = gaussian_filter(rng.standard_normal(shape, np.float32), sigmas)
    return (noise - noise.mean()) / noise.std()


def paint_head(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    tumor: Tumor,
    *,
    skull: bool,
) -> np.ndarray:
    """Paint the tissues (slices, rows, columns) uint8 of a head, anterior at the first row.

    `skull` adds skull and scalp.
    """
    z, y, x = (
        ((np.arange(count) + 0.5 - count / 2) * side)
        .astype(np.float32)
        .reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (count, side) in enumerate(zip(shape, spacing_mm, strict=True))
    )

    def noise(size_mm: float) -> np.ndarray:
        return smooth_noise(rng, shape, tuple(size_mm / side for side in spacing_mm))

    def depth(center: Sequence[float], half_mm: Sequence[float]) -> np.ndarray:
        """Approximate the depth inside an ellipsoid in mm; negative outside."""
        reach = np.sqrt(sum(((at - c) / h) ** 2 for at, c, h in zip((z, y, x), center, half_mm, strict=True)))
        return (1 - reach) * min(half_mm)

    size = rng.uniform(0.93, 1.05)
    half = tuple(size * side * rng.uniform(0.96, 1.04) for side in _BRAIN_MM)
    surface = depth((0, 0, 0), half) + 1.5 * noise(14)
    tissues = np.zeros(shape, np.uint8)
    if skull:
        tissues[surface > -_SKULL_MM - _SCALP_MM] = Tissue.SCALP
        tissues[surface > -_SKULL_MM] = Tissue.SKULL
    brain = surface > 0
    folds = noise(3.2)
    tissues[brain] = Tissue.WHITE
    tissues[brain & (surface < 5 + 2.5 * folds)] = Tissue.GRAY
    tissues[brain & (np.abs(folds) < 0.22) & (surface < 9)] = Tissue.FLUID  # sulci
    tissues[brain & (np.abs(x + 0 * surface) < 1.5) & (surface < 16)] = Tissue.FLUID  # interhemispheric fissure
    wobble = noise(7)
    for side in (-1, 1):
        nuclei = depth((0, -2, side * 21), (15, 20, 9)) + wobble
        ventricle = depth((6, 2, side * 8.5), (13, 30, 6.5)) + 0.8 * wobble
        tissues[brain & (nuclei > 0)] = Tissue.GRAY
        tissues[brain & (ventricle > 0)] = Tissue.FLUID

    radius = tumor.radius_mm
    ragged = radius * tumor.ragged * noise(6)
    inside = depth(tumor.center, (radius,) * 3) + ragged
    # Edema spreads along white matter and spares the cortex and the ventricles.
    inside = inside - np.where(tissues == Tissue.GRAY, 0.15 * radius, 0)
    whole = _largest_component(brain & (inside > 0) & (tissues != Tissue.FLUID))
    core = depth(tumor.center, (radius * tumor.core,) * 3) + 0.45 * ragged if tumor.core else np.float32(-1)
    tissues[whole] = Tissue.EDEMA
    tissues[whole & (core > 0)] = Tissue.CORE
    if tumor.rim:
        tissues[whole & (core > 0) & (core < tumor.rim * radius * tumor.core + 1.5 * wobble)] = Tissue.ENHANCING
    return tissues


def _largest_component(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected component of `mask`."""
    components, _ = label(mask)  # pyright: ignore[reportGeneralTypeIssues]  # stub of SciPy
    return mask & (components == np.bincount(components[mask]).argmax())


def mri_intensities(
    rng: np.random.Generator, tissues: np.ndarray, contrast: dict[Tissue, float], spacing_mm: tuple[float, float, float]
) -> np.ndarray:
    """Simulate an MRI sequence (slices, rows, columns) float32, about 0 to 1.

    `contrast` gives the brightness of each tissue. The simulation adds texture, partial volume effects at borders, a
    slowly varying coil gain and Rician noise (Gudbjartsson & Patz 1995).
    """
    values = np.zeros(max(Tissue) + 1, np.float32)
    for tissue, value in contrast.items():
        values[tissue] = value
    image = values[tissues] * (1 + 0.05 * smooth_noise(rng, tissues.shape, (0.5, 1.2, 1.2)))
    image = gaussian_filter(image, (0.3, 0.6, 0.6))
    gain = np.exp(0.07 * smooth_noise(rng, tissues.shape, tuple(45 / side for side in spacing_mm)))
    noise = rng.uniform(0.012, 0.03) * rng.standard_normal((2, *tissues.shape), np.float32)
    return np.hypot(image * gain + noise[0], noise[1])
