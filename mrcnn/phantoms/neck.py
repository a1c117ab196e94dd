"""The neck around the thyroid in a transverse slice: where its organs lie.

Sizes follow the sonographic anatomy of adults: skin 1–2 mm, strap muscles 3–6 mm, lobe 13–20 mm wide and deep,
isthmus 2–5 mm, trachea 14–18 mm and common carotid artery 5–8 mm across.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrcnn.phantoms.outline import Outline, waves
from mrcnn.phantoms.speckle import smooth_noise
from mrcnn.phantoms.tissue import Tissue


@dataclass(frozen=True)
class Habitus:
    """What the images of one patient share.

    Attributes:
        fat_mm, strap_mm: thickness of the fat under the skin and of the strap muscles.
        trachea_mm: outer radius of the trachea.
        isthmus_mm: thickness of the thyroid in front of it.
        fat_db, muscle_db, deep_db: echo levels against the thyroid's.
        coarseness_db: unevenness of the thyroid tissue.
    """

    fat_mm: float
    strap_mm: float
    trachea_mm: float
    isthmus_mm: float
    fat_db: float
    muscle_db: float
    deep_db: float
    coarseness_db: float


@dataclass(frozen=True)
class Neck:
    """Where things lie in one slice, in mm.

    Attributes:
        fascia, bed: (W,) depth of the front and the back of the strap muscles.
        lobes: one outline a thyroid lobe in view.
        trachea, carotids, veins: outlines; the trachea may lie partly outside the view.
    """

    fascia: np.ndarray
    bed: np.ndarray
    lobes: tuple[Outline, ...]
    trachea: Outline
    carotids: tuple[Outline, ...]
    veins: tuple[Outline, ...]

    def organs(self) -> tuple[Outline, ...]:
        """What is no place for a nodule."""
        return (self.trachea, *self.carotids)


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """A patient."""
    return Habitus(
        fat_mm=rng.uniform(1.2, 4.0),
        strap_mm=rng.uniform(2.6, 4.6),
        trachea_mm=rng.uniform(7.2, 9.0),
        isthmus_mm=rng.uniform(2.0, 4.0),
        fat_db=rng.uniform(-9, -5),
        muscle_db=rng.uniform(-11, -7.5),
        deep_db=rng.uniform(-10, -6),
        coarseness_db=rng.uniform(0.7, 1.5),
    )


def lay_out(rng: np.random.Generator, tissue: Tissue, habitus: Habitus, held_mm: Mapping[int, float]) -> Neck:
    """Places the organs of one slice.

    Args:
        held_mm: for each lobe in view, -1 on the left and 1 on the right of the screen, the length of what nodules it
            has to hold; with both in view the trachea lies in the middle.
    """
    height, width = tissue.extent
    # A shallow picture shows a slim neck: the front layers never take more than about a third of the depth.
    squeeze = min(1.0, 0.3 * height / (1.4 + habitus.fat_mm + habitus.strap_mm))
    fascia = squeeze * (1.4 + habitus.fat_mm) + 0.5 * wander(rng, tissue, 9.0)
    bed = fascia + squeeze * habitus.strap_mm * (1 + 0.12 * wander(rng, tissue, 7.0))
    front = float(np.median(bed))

    if len(held_mm) == 2:
        trachea_x = rng.uniform(-2, 2)
    else:
        trachea_x = -next(iter(held_mm)) * (width / 2 - rng.uniform(-0.25, 0.45) * habitus.trachea_mm)
    trachea_z = front + habitus.isthmus_mm + habitus.trachea_mm * rng.uniform(0.95, 1.1)
    trachea = Outline(trachea_x, trachea_z, habitus.trachea_mm, 0.92 * habitus.trachea_mm, waves=waves(rng, 2, 4, 0.05))
    lobes, carotids, veins = [], [], []
    for side, held in held_mm.items():
        room = 0.5 * (height - front) - 1.0
        half_width = max(rng.uniform(7.0, 10.0), 0.6 * held)
        half_height = min(max(rng.uniform(5.5, 8.5), 0.55 * held), room)
        lobe = Outline(
            trachea_x + side * (habitus.trachea_mm + rng.uniform(0.7, 0.85) * half_width),
            front + half_height * rng.uniform(0.92, 1.0),
            half_width,
            half_height,
            tilt=side * rng.uniform(-0.1, 0.3),
            waves=waves(rng, 2, 5, 0.17),
        )
        lobes.append(lobe)
        radius = rng.uniform(2.5, 3.8)
        carotid_x = lobe.x + side * (half_width + radius + rng.uniform(0.2, 1.2))
        carotid_z = lobe.z + rng.uniform(-0.1, 0.5) * half_height
        carotids.append(
            Outline(carotid_x, carotid_z, radius, radius * rng.uniform(0.85, 1.05), waves=waves(rng, 2, 4, 0.06))
        )
        flat = rng.uniform(0.35, 0.9)
        veins.append(
            Outline(
                carotid_x + side * (radius + rng.uniform(2.5, 4.0)),
                carotid_z - rng.uniform(1.0, 3.0),
                rng.uniform(3.0, 4.5),
                flat * 3.6,
                tilt=side * rng.uniform(0, 0.5),
                waves=waves(rng, 2, 3, 0.12),
            )
        )
    return Neck(fascia, bed, tuple(lobes), trachea, tuple(carotids), tuple(veins))


def thyroid_distance(tissue: Tissue, neck: Neck, habitus: Habitus) -> np.ndarray:
    """(H, W) signed distance to the thyroid: the lobes, smoothly joined with the isthmus on the trachea."""
    # The isthmus is the sleeve around the front of the trachea, as far as the lobes reach forward.
    sleeve = neck.trachea.distance(tissue.x, tissue.z, far=8.0) - habitus.isthmus_mm
    sleeve = np.maximum(sleeve, tissue.z - np.float32(neck.trachea.z - 0.35 * habitus.trachea_mm))
    joined = sleeve
    for lobe in neck.lobes:
        joined = _smooth_minimum(joined, lobe.distance(tissue.x, tissue.z), 1.2)
    return joined


def wander(rng: np.random.Generator, tissue: Tissue, scale_mm: float) -> np.ndarray:
    """(W,) smooth noise of unit variance across the picture."""
    return smooth_noise(rng, (1, tissue.shape[1]), 1, scale_mm / tissue.spacing)[0]


def _smooth_minimum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Smaller of two distances, rounded over `blend` mm where they meet."""
    near = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.minimum(a, b) - near**2 * blend / 4
