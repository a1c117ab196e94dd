"""Thyroid nodules: their number, size and shape, where they fit, and how they look."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mrcnn.phantoms.neck import Neck
from mrcnn.phantoms.neck_painting import FLUID_DB
from mrcnn.phantoms.outline import Outline, waves
from mrcnn.phantoms.speckle import smooth_noise
from mrcnn.phantoms.tissue import Tissue

CLASS_NAMES = ("iso", "hypo")
ISO, HYPO = 1, 2

_NUMBER_SHARES = (0.12, 0.46, 0.28, 0.14)  # of images with 0, 1, 2, 3 nodules
_LARGEST = {1: 0.45, 2: 0.28, 3: 0.2}  # long diameter as a share of the image's width, by number
_SMALLEST = {ISO: 0.1, HYPO: 0.075}  # below that a halo cannot be told from a dark nodule
_GAP_MM = 0.6


@dataclass(frozen=True)
class Nodule:
    """One nodule of a slice: `class_id`, `margin` and its outline, whose centre is chosen later."""

    class_id: int
    margin: str
    outline: Outline

    @property
    def long_mm(self) -> float:
        return _long(self.outline)


def draw_nodules(rng: np.random.Generator, height_mm: float, width_mm: float, share: float = 1.0) -> list[Nodule]:
    """Between none and three nodules, largest first, none longer than `share` of what is usual."""
    number = int(rng.choice(4, p=_NUMBER_SHARES))
    nodules = []
    for _ in range(number):
        class_id = ISO if rng.random() < 0.5 else HYPO
        largest = min(share * _LARGEST[number] * width_mm, 0.55 * height_mm)
        smallest = min(_SMALLEST[class_id] * width_mm, largest)
        nodules.append(_draw_nodule(rng, class_id, smallest + (largest - smallest) * float(rng.beta(1.2, 1.5))))
    return sorted(nodules, key=lambda nodule: -nodule.long_mm)


def _long(outline: Outline) -> float:
    return 2 * max(outline.half_width, outline.half_height)


def _draw_nodule(rng: np.random.Generator, class_id: int, long_mm: float) -> Nodule:
    # Suspicious forms (taller than wide, irregular, lobulated) are commoner among hypoechoic nodules (ACR TI-RADS).
    shares = (0.65, 0.3, 0.05) if class_id == ISO else (0.4, 0.3, 0.3)
    margin = str(rng.choice(("smooth", "lobulated", "irregular"), p=shares))
    shape = {"smooth": (2, 3, 0.05), "lobulated": (3, 6, 0.14), "irregular": (2, 9, 0.26)}[margin]
    tall = rng.random() < (0.12 if class_id == ISO else 0.35)
    ratio = rng.uniform(0.62, 0.98)
    across, along = (ratio, 1.0) if tall else (1.0, ratio)
    outline = Outline(
        0, 0, across * long_mm / 2, along * long_mm / 2, tilt=rng.uniform(-0.35, 0.35), waves=waves(rng, *shape)
    )
    return Nodule(class_id, margin, outline)


def place(
    rng: np.random.Generator, nodules: list[Nodule], tissue: Tissue, neck: Neck, thyroid: np.ndarray, lobes: list[int]
) -> tuple[list[Nodule], np.ndarray]:
    """Nodules at places where they fit, and their masks (N, H, W) bool.

    A nodule lies mostly in the thyroid, clear of trachea, arteries and other nodules, and wholly in the picture. One
    that does not fit is tried smaller, and left out when no place was found in a number of trials.

    Args:
        thyroid: (H, W) signed distance to the thyroid.
        lobes: for each nodule the index of its lobe in `neck.lobes`.
    """
    height, width = tissue.extent
    blocked = np.zeros(tissue.shape, bool)
    for organ in neck.organs():
        blocked |= organ.distance(tissue.x, tissue.z) < 0.4
    placed, masks = [], []
    for nodule, index in zip(nodules, lobes, strict=True):
        lobe, outline = neck.lobes[index], nodule.outline
        for attempt in range(60):
            if attempt % 12 == 11 and 0.85 * _long(outline) >= _SMALLEST[nodule.class_id] * width:
                outline = replace(outline, half_width=0.85 * outline.half_width, half_height=0.85 * outline.half_height)
            spread = 0.2 + 0.65 * attempt / 60
            outline = replace(
                outline,
                x=lobe.x + lobe.half_width * rng.uniform(-spread, spread),
                z=lobe.z + lobe.half_height * rng.uniform(-spread, spread),
            )
            if abs(outline.x) + outline.reach > width / 2 - 0.5 or outline.z + outline.reach > height - 0.5:
                continue
            distance = outline.distance(tissue.x, tissue.z)
            mask = distance < 0
            if not mask.any() or (thyroid[mask] < 0).mean() < 0.85 or blocked[mask].any():
                continue
            placed.append(replace(nodule, outline=outline))
            masks.append(mask)
            blocked |= distance < _GAP_MM
            break
    return placed, np.stack(masks) if masks else np.zeros((0, *tissue.shape), bool)


def paint_nodule(rng: np.random.Generator, tissue: Tissue, nodule: Nodule) -> None:
    """Hypoechoic: clearly darker than the thyroid. Isoechoic: about as bright or brighter, in a thin dark halo."""
    mm = 1 / tissue.spacing
    distance = nodule.outline.distance(tissue.x, tissue.z)
    coarse = smooth_noise(rng, tissue.shape, 0.9 * mm, 1.1 * mm)
    if nodule.class_id == HYPO:
        level = rng.uniform(-14, -9.5) + rng.uniform(0.4, 1.4) * coarse
        edge = {"smooth": 0.15, "lobulated": 0.2, "irregular": 0.35}[nodule.margin]
        tissue.fill(distance, level, attenuation=rng.uniform(-0.05, 0.3), edge_mm=edge)
        if nodule.margin == "smooth":
            tissue.add_interface(distance, rng.uniform(0.3, 1.2), thickness_mm=0.12)
    else:
        level = rng.uniform(-0.5, 4.0) + rng.uniform(0.6, 1.6) * coarse
        halo = float(np.clip(0.06 * nodule.long_mm, 0.55, 1.0)) * rng.uniform(0.85, 1.25)
        halo = halo * np.clip(1 + 0.35 * smooth_noise(rng, tissue.shape, 1.5 * mm, 1.5 * mm), 0.55, 1.6)
        tissue.fill(distance, rng.uniform(-18, -13), attenuation=0.25, edge_mm=0.15)
        tissue.fill(distance + halo, level, attenuation=rng.uniform(0.0, 0.2), edge_mm=0.2)
    if nodule.long_mm > 6 and rng.random() < (0.1 if nodule.class_id == ISO else 0.25):
        _paint_cyst(rng, tissue, nodule)
    if rng.random() < (0.1 if nodule.class_id == ISO else 0.35):
        _paint_calcifications(rng, tissue, nodule)


def _paint_cyst(rng: np.random.Generator, tissue: Tissue, nodule: Nodule) -> None:
    """A fluid part, off the centre, that stays well inside."""
    whole = nodule.outline
    size = rng.uniform(0.22, 0.45)
    direction, offset = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3)
    cyst = Outline(
        whole.x + offset * whole.half_width * float(np.cos(direction)),
        whole.z + offset * whole.half_height * float(np.sin(direction)),
        size * whole.half_width,
        size * whole.half_height,
        tilt=rng.uniform(-0.6, 0.6),
        waves=waves(rng, 2, 5, 0.25),
    )
    distance = cyst.distance(tissue.x, tissue.z)
    tissue.fill(distance, FLUID_DB - 3, attenuation=-0.7, edge_mm=0.15)
    tissue.add_interface(distance, 1.2, thickness_mm=0.12)


def _paint_calcifications(rng: np.random.Generator, tissue: Tissue, nodule: Nodule) -> None:
    """Bright points; seldom one coarse piece with a shadow behind."""
    whole = nodule.outline
    coarse = nodule.long_mm > 8 and rng.random() < 0.25
    for _ in range(1 if coarse else rng.integers(3, 9)):
        direction, offset = rng.uniform(0, 2 * np.pi), 0.6 * np.sqrt(rng.random())
        piece = Outline(
            whole.x + offset * whole.half_width * float(np.cos(direction)),
            whole.z + offset * whole.half_height * float(np.sin(direction)),
            *(rng.uniform(0.5, 0.9, 2) if coarse else rng.uniform(0.1, 0.2, 2)),
            waves=waves(rng, 2, 5, 0.3),
        )
        distance = piece.distance(tissue.x, tissue.z)
        tissue.fill(distance, 9.0, attenuation=12.0 if coarse else 2.0, edge_mm=0.1)
