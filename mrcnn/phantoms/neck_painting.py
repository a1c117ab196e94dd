"""The neck around the thyroid in a transverse slice: how its organs look."""

from __future__ import annotations

import numpy as np

from mrcnn.phantoms.neck import Habitus, Neck, wander
from mrcnn.phantoms.outline import Outline, waves
from mrcnn.phantoms.speckle import smooth_noise
from mrcnn.phantoms.tissue import Tissue

FLUID_DB = -27.0


def paint_surroundings(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Skin, fat, muscles and the deep neck: everything behind which the thyroid is painted."""
    _paint_depths(rng, tissue, neck, habitus)
    _paint_muscle(rng, tissue, neck, habitus)
    _paint_fat(rng, tissue, neck, habitus)
    _paint_skin(rng, tissue)


def paint_thyroid(rng: np.random.Generator, tissue: Tissue, distance: np.ndarray, habitus: Habitus) -> None:
    """Even, fine tissue, brighter than the muscles, in a thin capsule."""
    mm = 1 / tissue.spacing
    slow = smooth_noise(rng, tissue.shape, 2.5 * mm, 3.5 * mm)
    grain = smooth_noise(rng, tissue.shape, 0.3 * mm, 0.5 * mm)
    uneven = habitus.coarseness_db * (0.7 * slow + 1.2 * grain)
    tissue.fill(distance, uneven, attenuation=0.12)
    tissue.add_interface(distance, 1.2 * _patchy(rng, tissue, 1.0), thickness_mm=0.17)
    # A few vessels inside: short dark dots and dashes.
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
    """Arteries with a double bright wall and veins, both free of echoes, with enhancement behind."""
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
    """A dark ring of cartilage, the bright line of air behind it, then dirty shadow with reverberations."""
    distance = trachea.distance(tissue.x, tissue.z)
    front = np.clip((np.float32(trachea.z) - tissue.z) / 2, 0, 1)
    cartilage = -11.0 + 1.5 * smooth_noise(rng, tissue.shape, 4, 8)
    tissue.fill(distance, cartilage, attenuation=0.2)
    tissue.add_interface(distance, 2.0 * front * _patchy(rng, tissue, 1.5), thickness_mm=0.15)
    # No sound passes the air: from its surface to the bottom of the picture there are only echoes of what lies above.
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
    """Loose tissue, the longus colli muscle and the bright prevertebral fascia behind the thyroid."""
    patches = smooth_noise(rng, tissue.shape, 1.4 / tissue.spacing, 3.0 / tissue.spacing)
    tissue.level += habitus.deep_db + 3.5 * patches
    # Echogenic fat lies between the organs: blotches, and within them bright short lines.
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
    """The two straps, one behind the other, each in its fascia, and to the side the sternocleidomastoid muscle."""
    below = tissue.z - neck.bed.astype(np.float32)
    middle = neck.fascia + (neck.bed - neck.fascia) * (0.55 + 0.1 * wander(rng, tissue, 6.0))
    fibres = _streaks(rng, tissue, neck.bed, 0.2, 1.3, 0.5)
    tissue.fill(below, habitus.muscle_db + 6 * fibres, attenuation=0.3, edge_mm=0.4)
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
    """A muscle cut across: dark, with short bright fibres, in a broken bright sheath."""
    distance = belly.distance(tissue.x, tissue.z)
    fibres = _streaks(rng, tissue, along, 0.2, 1.2, 0.5)
    tissue.fill(distance, habitus.muscle_db + 6 * fibres, attenuation=0.35, edge_mm=0.5)
    tissue.add_interface(distance, 0.9 * _patchy(rng, tissue, 0.8), thickness_mm=0.22)


def _paint_fat(rng: np.random.Generator, tissue: Tissue, neck: Neck, habitus: Habitus) -> None:
    """Dark lobules between bright septa that run with the skin, and the bright fascia below."""
    septa = _streaks(rng, tissue, neck.fascia, 0.22, 3.0, 0.5)
    below = tissue.z - neck.fascia.astype(np.float32)
    tissue.fill(below, habitus.fat_db + 9 * septa, attenuation=0.25, edge_mm=0.3)
    tissue.add_interface(below, 2.0 * _patchy(rng, tissue, 2.0), thickness_mm=0.2)


def _paint_skin(rng: np.random.Generator, tissue: Tissue) -> None:
    skin = np.float32(rng.uniform(1.0, 1.5)) + 0.1 * wander(rng, tissue, 6.0).astype(np.float32)
    below = tissue.z - skin
    tissue.fill(below, 2.0 + smooth_noise(rng, tissue.shape, 2, 12), attenuation=0.2, edge_mm=0.2)
    tissue.add_interface(below, 1.5 * _patchy(rng, tissue, 3.0), thickness_mm=0.15)
    # The first fraction of a millimetre is gel and the probe's own surface.
    tissue.fill(tissue.z - np.float32(0.35), 8.0, attenuation=0.0, edge_mm=0.15)


def _cast_edge_shadows(tissue: Tissue, outline: Outline, strength: float) -> None:
    """Beams that graze a round wall are bent away: a thin shadow below either flank."""
    below = tissue.z > np.float32(outline.z)
    for flank in (-1, 1):
        across = tissue.x - np.float32(outline.x + flank * outline.half_width)
        fade = np.exp(-np.maximum(tissue.z - np.float32(outline.z), 0) / 6)
        tissue.attenuation += strength * below * fade * np.exp(-0.5 * (across / 0.35) ** 2)


def _patchy(rng: np.random.Generator, tissue: Tissue, scale_mm: float) -> np.ndarray:
    """(1, W) strength of an interface, between 0 and 1.8, broken at `scale_mm` and changing across the picture."""
    strength = 0.75 + 0.35 * wander(rng, tissue, scale_mm) + 0.3 * wander(rng, tissue, 6 * scale_mm)
    return np.clip(strength, 0.0, 1.8)[None].astype(np.float32)


def _streaks(
    rng: np.random.Generator, tissue: Tissue, along: np.ndarray, thick_mm: float, long_mm: float, rarity: float
) -> np.ndarray:
    """(H, W) short bright lines that run along the curve `along` (W,), 0 between them, about 0–2 on them."""
    height, width = tissue.shape
    field = smooth_noise(rng, (height, width), thick_mm / tissue.spacing, long_mm / tissue.spacing)
    bend = along - along.mean() + 0.35 * wander(rng, tissue, 4.0)
    rows = np.arange(height)[:, None] - np.rint(bend / tissue.spacing).astype(np.int64)
    return np.maximum(np.take_along_axis(field, rows % height, 0) - np.float32(rarity), 0)
