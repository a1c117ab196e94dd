"""Lay out and paint the neck around the thyroid in a transverse ultrasound slice.

Sizes follow the sonographic anatomy of adults: skin 1–2 mm, strap muscles 3–6 mm, lobe 13–20 mm wide and deep,
isthmus 2–5 mm, trachea 14–18 mm and common carotid artery 5–8 mm across.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mrcnn.phantoms.shapes import Outline, smooth_noise, waves
from mrcnn.phantoms.ultrasound import Tissue


@dataclass(frozen=True)
class Habitus:
    """Store the anatomy that all images of one patient share.

    Attributes:
        fat_mm, strap_mm: thickness of the fat under the skin and of the strap muscles.
        trachea_mm: outer radius of the trachea.
        isthmus_mm: thickness of the thyroid in front of it.
        fat_db, muscle_db, deep_db: echo levels relative to the thyroid.
        coarseness_db: amplitude of the thyroid texture.
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
    """Store the positions of the organs in one slice, in mm.

    Attributes:
        fascia, bed: (W,) depth of the front and the back of the strap muscles.
        lobes: an outline per thyroid lobe in view.
        trachea, carotids, veins: outlines; the trachea may be partly outside the view.
    """

    fascia: np.ndarray
    bed: np.ndarray
    lobes: tuple[Outline, ...]
    trachea: Outline
    carotids: tuple[Outline, ...]
    veins: tuple[Outline, ...]

    def organs(self) -> tuple[Outline, ...]:
        """Return the organs that a nodule must not overlap."""
        return (self.trachea, *self.carotids)


def draw_habitus(rng: np.random.Generator) -> Habitus:
    """Draw the anatomy of a patient."""
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


def lay_out(rng: np.random.Generator, tissue: Tissue, habitus: Habitus, nodules_mm: Mapping[int, float]) -> Neck:
    """Draw the positions of the organs in one slice.

    `nodules_mm` has for each lobe in view (-1 left, 1 right in the image) the total length of its nodules. With both
    lobes in view the trachea is in the middle.
    """
    height, width = tissue.extent
    # The front layers use at most about a third of the depth, also in a shallow image.
    squeeze = min(1.0, 0.3 * height / (1.4 + habitus.fat_mm + habitus.strap_mm))
    fascia = squeeze * (1.4 + habitus.fat_mm) + 0.5 * wander(rng, tissue, 9.0)
    bed = fascia + squeeze * habitus.strap_mm * (1 + 0.12 * wander(rng, tissue, 7.0))
    front = float(np.median(bed))

    if len(nodules_mm) == 2:
        trachea_x = rng.uniform(-2, 2)
    else:
        trachea_x = -next(iter(nodules_mm)) * (width / 2 - rng.uniform(-0.25, 0.45) * habitus.trachea_mm)
    trachea_z = front + habitus.isthmus_mm + habitus.trachea_mm * rng.uniform(0.95, 1.1)
    trachea = Outline(trachea_x, trachea_z, habitus.trachea_mm, 0.92 * habitus.trachea_mm, waves=waves(rng, 2, 4, 0.05))
    lobes, carotids, veins = [], [], []
    for side, length_mm in nodules_mm.items():
        limit = 0.5 * (height - front) - 1.0
        half_width = max(rng.uniform(7.0, 10.0), 0.6 * length_mm)
        half_height = min(max(rng.uniform(5.5, 8.5), 0.55 * length_mm), limit)
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
    """Compute the signed distance (H, W) to the thyroid: the lobes, joined smoothly with the isthmus."""
    # The isthmus is a sleeve around the front of the trachea, as far forward as the lobes.
    sleeve = neck.trachea.distance(tissue.x, tissue.z, far=8.0) - habitus.isthmus_mm
    sleeve = np.maximum(sleeve, tissue.z - np.float32(neck.trachea.z - 0.35 * habitus.trachea_mm))
    joined = sleeve
    for lobe in neck.lobes:
        joined = _smooth_minimum(joined, lobe.distance(tissue.x, tissue.z), 1.2)
    return joined


def wander(rng: np.random.Generator, tissue: Tissue, scale_mm: float) -> np.ndarray:
    """Draw smooth noise (W,) of unit variance across the image."""
    return smooth_noise(rng, (1, tissue.shape[1]), 1, scale_mm / tissue.spacing)[0]


def _smooth_minimum(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    """Compute the minimum of two distances, smoothed over `blend` mm where they are equal."""
    near = np.maximum(blend - np.abs(a - b), 0) / blend
    return np.minimum(a, b) - near**2 * blend / 4


FLUID_DB = -27.0


def paint_surroundings(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Paint skin, fat, muscles and the deep neck, before the thyroid."""
    _paint_depths(rng, tissue, neck, habitus)
    _paint_muscle(rng, tissue, neck, habitus)
    _paint_fat(rng, tissue, neck, habitus)
    _paint_skin(rng, tissue)


def paint_thyroid(rng: np.random.Generator, tissue: Tissue, distance: np.ndarray, habitus: Habitus) -> None:
    """Paint homogeneous, fine tissue, brighter than the muscles, with a thin capsule."""
    mm = 1 / tissue.spacing
    slow = smooth_noise(rng, tissue.shape, 2.5 * mm, 3.5 * mm)
    grain = smooth_noise(rng, tissue.shape, 0.3 * mm, 0.5 * mm)
    uneven = habitus.coarseness_db * (0.7 * slow + 1.2 * grain)
    tissue.fill(distance, uneven, attenuation=0.12)
    tissue.add_interface(distance, 1.2 * _patchy(rng, tissue, 1.0), thickness_mm=0.17)
    # A few vessels: short dark dots and dashes.
    for _ in range(rng.integers(0, 4)):
        row, column = rng.integers(tissue.shape[0]), rng.integers(tissue.shape[1])
        if distance[row, column] < -2:
            vessel = Outline(
                float(tissue.x[0, column]),
                float(tissue.z[row, 0]),
                rng.uniform(0.25, 0.7),
                rng.uniform(0.15, 0.3),
                tilt=rng.uniform(-0.6, 0.6),
            )
            tissue.fill(vessel.distance(tissue.x, tissue.z), -11.0, attenuation=0.12)


def paint_vessels(rng: np.random.Generator, tissue: Tissue, neck: Neck) -> None:
    """Paint veins and arteries (with a brighter wall): anechoic, with posterior enhancement."""
    for outline, wall in [*((vein, 1.0) for vein in neck.veins), *((artery, 1.8) for artery in neck.carotids)]:
        if abs(outline.x) - outline.reach > tissue.extent[1] / 2:
            continue
        distance = outline.distance(tissue.x, tissue.z)
        tissue.fill(distance - 0.7, -5.0, attenuation=0.1)
        behind_wall = np.maximum(tissue.z - np.float32(outline.z - outline.half_height), 0)
        haze = rng.uniform(-9, 0) + 6 * np.exp(-behind_wall / 1.2)
        tissue.fill(distance, FLUID_DB + haze, attenuation=-0.55)
        tissue.add_interface(distance - 0.25, wall * _patchy(rng, tissue, 1.0), thickness_mm=0.15)
        _cast_edge_shadows(tissue, outline, 0.35)


def paint_trachea(rng: np.random.Generator, tissue: Tissue, trachea: Outline) -> None:
    """Paint a dark ring of cartilage, the bright surface of the air and a dirty shadow with reverberations."""
    distance = trachea.distance(tissue.x, tissue.z)
    front = np.clip((np.float32(trachea.z) - tissue.z) / 2, 0, 1)
    cartilage = -11.0 + 1.5 * smooth_noise(rng, tissue.shape, 4, 8)
    tissue.fill(distance, cartilage, attenuation=0.2)
    tissue.add_interface(distance, 2.0 * front * _patchy(rng, tissue, 1.5), thickness_mm=0.15)
    # Air reflects all sound: below its surface the image shows reverberations only.
    ring = rng.uniform(1.2, 1.9)
    radius = trachea.half_width - ring
    across = np.clip(np.abs(tissue.x - np.float32(trachea.x)) / radius, 0, 1)
    depth = tissue.z - np.float32(trachea.z) + (trachea.half_height - ring) * np.sqrt(1 - across**2)
    depth = depth + 0.15 * wander(rng, tissue, 1.2)
    period = rng.uniform(1.5, 2.4)
    echoes = rng.uniform(4, 10) * np.cos(2 * np.pi * depth / period) * np.exp(-np.maximum(depth, 0) / 5)
    dirt = 2.5 * smooth_noise(rng, tissue.shape, 2.5 / tissue.spacing, 0.7 / tissue.spacing)
    behind = -12 - rng.uniform(1.0, 1.6) * np.maximum(depth, 0) + echoes + dirt - 8 * across**4
    outside = np.abs(tissue.x - np.float32(trachea.x)) - radius
    tissue.fill(np.maximum(-depth, outside), np.maximum(behind, -45), attenuation=0.0, edge_mm=0.9)
    shine = 6.0 * np.clip(1 - across**2, 0, 1) ** 1.5 * _patchy(rng, tissue, 1.5)
    tissue.mirror += shine * np.exp(-0.5 * ((depth - 0.1) / 0.2) ** 2)


def _paint_depths(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Paint loose tissue, the longus colli muscles and the bright prevertebral fascia behind the thyroid."""
    patches = smooth_noise(rng, tissue.shape, 1.4 / tissue.spacing, 3.0 / tissue.spacing)
    tissue.level += habitus.deep_db + 3.5 * patches
    # Echogenic fat between the organs: patches with short bright lines.
    tissue.level += 5 * np.maximum(patches - 0.6, 0) + 9 * _streaks(rng, tissue, neck.bed, 0.3, 1.8, 0.8)
    tissue.attenuation += 0.4
    for lobe in neck.lobes:
        muscle = Outline(
            lobe.x + rng.uniform(-2, 3),
            lobe.z + lobe.half_height + rng.uniform(3.0, 4.5),
            rng.uniform(7, 10),
            rng.uniform(2.4, 3.4),
            tilt=rng.uniform(-0.15, 0.15),
            waves=waves(rng, 2, 5, 0.25),
        )
        _paint_belly(rng, tissue, muscle, neck.bed, habitus)
    spine = float(max(lobe.z + lobe.half_height for lobe in neck.lobes)) + rng.uniform(6.5, 9.0)
    ripple = spine + 0.8 * wander(rng, tissue, 4.0) + 0.006 * (tissue.x[0] - neck.trachea.x) ** 2
    below = tissue.z - ripple.astype(np.float32)
    tissue.fill(-below - 0.8, -12.0 + 2 * patches, attenuation=0.3, edge_mm=0.8)
    tissue.add_interface(below, 1.8 * _patchy(rng, tissue, 0.7), thickness_mm=0.35)


def _paint_muscle(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Paint the two layers of strap muscles with their fascias, and the sternocleidomastoid muscles beside them."""
    below = tissue.z - neck.bed.astype(np.float32)
    middle = neck.fascia + (neck.bed - neck.fascia) * (0.55 + 0.1 * wander(rng, tissue, 6.0))
    fibers = _streaks(rng, tissue, neck.bed, 0.2, 1.3, 0.5)
    tissue.fill(below, habitus.muscle_db + 6 * fibers, attenuation=0.3, edge_mm=0.4)
    tissue.add_interface(tissue.z - middle.astype(np.float32), 0.8 * _patchy(rng, tissue, 1.5), thickness_mm=0.13)
    tissue.add_interface(below, 1.5 * _patchy(rng, tissue, 1.5), thickness_mm=0.17)
    for lobe in neck.lobes:
        side = np.sign(lobe.x - neck.trachea.x)
        belly = Outline(
            lobe.x + side * (lobe.half_width + rng.uniform(3, 6)),
            float(np.median(neck.fascia)) + rng.uniform(2.0, 3.2),
            rng.uniform(8, 11),
            rng.uniform(2.6, 4.0),
            tilt=side * rng.uniform(0.0, 0.15),
            waves=waves(rng, 2, 4, 0.15),
        )
        _paint_belly(rng, tissue, belly, neck.bed, habitus)


def _paint_belly(rng: np.random.Generator, tissue: Tissue, belly: Outline, along: np.ndarray, habitus: Habitus) -> None:
    """Paint a muscle in cross section: dark, with short bright fibers and a discontinuous bright sheath."""
    distance = belly.distance(tissue.x, tissue.z)
    fibers = _streaks(rng, tissue, along, 0.2, 1.2, 0.5)
    tissue.fill(distance, habitus.muscle_db + 6 * fibers, attenuation=0.35, edge_mm=0.5)
    tissue.add_interface(distance, 0.9 * _patchy(rng, tissue, 0.8), thickness_mm=0.22)


def _paint_fat(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Paint dark lobules between bright septa parallel to the skin, and the bright fascia below."""
    septa = _streaks(rng, tissue, neck.fascia, 0.22, 3.0, 0.5)
    below = tissue.z - neck.fascia.astype(np.float32)
    tissue.fill(below, habitus.fat_db + 9 * septa, attenuation=0.25, edge_mm=0.3)
    tissue.add_interface(below, 2.0 * _patchy(rng, tissue, 2.0), thickness_mm=0.2)


def _paint_skin(rng: np.random.Generator, tissue: Tissue) -> None:
    skin = np.float32(rng.uniform(1.0, 1.5)) + 0.1 * wander(rng, tissue, 6.0).astype(np.float32)
    below = tissue.z - skin
    tissue.fill(below, 2.0 + smooth_noise(rng, tissue.shape, 2, 12), attenuation=0.2, edge_mm=0.2)
    tissue.add_interface(below, 1.5 * _patchy(rng, tissue, 3.0), thickness_mm=0.15)
    # The first fraction of a millimeter shows the gel and the surface of the probe.
    tissue.fill(tissue.z - np.float32(0.35), 8.0, attenuation=0.0, edge_mm=0.15)


def _cast_edge_shadows(tissue: Tissue, outline: Outline, strength: float) -> None:
    """Add the thin refraction shadows below both edges of a round wall."""
    below = tissue.z > np.float32(outline.z)
    for flank in (-1, 1):
        across = tissue.x - np.float32(outline.x + flank * outline.half_width)
        fade = np.exp(-np.maximum(tissue.z - np.float32(outline.z), 0) / 6)
        tissue.attenuation += strength * below * fade * np.exp(-0.5 * (across / 0.35) ** 2)


def _patchy(rng: np.random.Generator, tissue: Tissue, scale_mm: float) -> np.ndarray:
    """Draw the strength (1, W) of an interface, from 0 to 1.8, discontinuous at the scale `scale_mm`."""
    strength = 0.75 + 0.35 * wander(rng, tissue, scale_mm) + 0.3 * wander(rng, tissue, 6 * scale_mm)
    return np.clip(strength, 0.0, 1.8)[None].astype(np.float32)


def _streaks(
    rng: np.random.Generator, tissue: Tissue, along: np.ndarray, thick_mm: float, long_mm: float, rarity: float
) -> np.ndarray:
    """Draw short bright lines (H, W) that run along the curve `along` (W,), 0 between them, about 0–2 on them."""
    height, width = tissue.shape
    field = smooth_noise(rng, (height, width), thick_mm / tissue.spacing, long_mm / tissue.spacing)
    bend = along - along.mean() + 0.35 * wander(rng, tissue, 4.0)
    # Negative rows count from the end, so that the lines wrap.
    rows = np.arange(height)[:, None] - np.rint(bend / tissue.spacing).astype(np.int64) % height
    return np.maximum(np.take_along_axis(field, rows, 0) - np.float32(rarity), 0)
