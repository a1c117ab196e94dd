"""Brain tumours on contrast-enhanced T1-weighted MRI, in axial slices, from a seed.

A patient's tumours are ellipsoids in a head; each slice cuts them at its own level, so neighbouring slices show the
same tumours grown or shrunk, and slices beyond them show none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mrcnn.data.sample import Sample
from mrcnn.phantoms.head import FLUID, GREY, WHITE, Head, Scan, Slice, draw_head, draw_scan
from mrcnn.phantoms.outline import Outline, waves
from mrcnn.phantoms.speckle import smooth_noise

__all__ = ["CLASS_NAMES", "VERSION", "Patient", "draw_patient", "make_image", "make_images"]

CLASS_NAMES = ("tumor",)
VERSION = 1  # rises whenever the same seed gives other pictures
RING, SOLID = "ring", "solid"

_NUMBER_SHARES = (0.72, 0.2, 0.08)  # of patients with 1, 2, 3 tumours
_SLICES = (2, 6)  # of a patient: at least, and below
_LEAST_MM = 2.5  # half axes below which a cut through a tumour is not drawn
_GAP_MM = 2.0


@dataclass(frozen=True)
class Tumour:
    """One tumour.

    Attributes:
        kind: `ring` enhances around a dead core and swells what surrounds it; `solid` is even.
        across, along: its centre in the head's axes, each between -1 and 1.
        level_mm: height of its centre.
        radius_mm: half of its height, and the longer half axis of its widest cut.
        ratio: of the shorter half axis to the longer.
        tilt: radians.
        shape: terms of the outline, see `Outline.waves`.
        bright: grey level of what takes up contrast agent.
        oedema_mm: width of the swelling.
    """

    kind: str
    across: float
    along: float
    level_mm: float
    radius_mm: float
    ratio: float
    tilt: float
    shape: tuple[tuple[int, float, float], ...]
    bright: float
    oedema_mm: float


@dataclass(frozen=True)
class Patient:
    """What the slices of one patient share."""

    head: Head
    scan: Scan
    tumours: tuple[Tumour, ...]


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient with one to three tumours; slices of 224 to 288 pixels a side, 0.77–1.1 mm each."""
    head, scan = draw_head(rng), draw_scan(rng)
    number = 1 + int(rng.choice(3, p=_NUMBER_SHARES))
    return Patient(head, scan, tuple(_draw_tumour(rng, number) for _ in range(number)))


def _draw_tumour(rng: np.random.Generator, number: int) -> Tumour:
    kind = RING if rng.random() < 0.55 else SOLID
    largest = {1: 26.0, 2: 18.0, 3: 13.0}[number]
    angle, reach = rng.uniform(0, 2 * np.pi), (rng.uniform(0.2, 0.62) if kind == RING else rng.uniform(0.35, 0.68))
    return Tumour(
        kind=kind,
        across=reach * float(np.cos(angle)),
        along=reach * float(np.sin(angle)),
        level_mm=rng.uniform(5, 40),
        radius_mm=rng.uniform(5.0, largest),
        ratio=rng.uniform(0.65, 1.0),
        tilt=rng.uniform(0, np.pi),
        shape=waves(rng, 2, 7, 0.2) if kind == RING else waves(rng, 2, 5, 0.09),
        bright=rng.uniform(168, 240),
        oedema_mm=rng.uniform(2, 14) if kind == RING else rng.uniform(0, 5),
    )


def make_image(
    rng: np.random.Generator,
    patient: Patient,
    level_mm: float,
    *,
    patient_id: str = "phantom",
    source: str = "phantom.png",
) -> Sample:
    """The slice of a patient at a level, from 0 at the ventricles to about 60 mm at the vertex.

    Returns:
        image (H, W, 1) uint8, a mask a tumour (what takes up contrast agent and what lies within), class ids into
        `CLASS_NAMES`, and the side of a pixel in mm.
    """
    cut = Slice(rng, patient.head, patient.scan, level_mm)
    blocked, masks = cut.depth < 1.0, []
    for tumour in patient.tumours:
        outline = _cut(cut, tumour, level_mm)
        if outline is None:
            continue
        distance = outline.distance(cut.x, cut.z, far=20.0)
        mask = distance < 0
        if not mask.any() or blocked[mask].any():  # it would grow out of the brain or into another
            continue
        _paint(rng, cut, tumour, outline, distance)
        masks.append(mask)
        blocked |= distance < _GAP_MM
    spacing = round(patient.scan.spacing_mm, 4)
    stacked = np.stack(masks) if masks else np.zeros((0, *cut.grey.shape), bool)
    class_ids = np.ones(len(masks), np.int32)
    return Sample(cut.picture()[..., None], stacked, class_ids, patient_id, source, (spacing, spacing))


def make_images(images: int, seed: int) -> Iterator[Sample]:
    """`images` slices, two to five of a patient; a longer series begins with the shorter one of the same seed."""
    made = number = 0
    while made < images:
        number += 1
        rng = np.random.default_rng((seed, number))
        patient = draw_patient(rng)
        count = int(rng.integers(*_SLICES))
        # Through the tumours, and at times beyond them.
        centre = patient.tumours[0].level_mm + rng.uniform(-8, 8)
        levels = np.clip(centre + rng.uniform(5, 9) * (np.arange(count) - (count - 1) / 2), 0, 55)
        for view, level in enumerate(levels[: images - made], start=1):
            name = f"{number:04d}"
            source = f"phantom---{name}-i{view}.png"
            yield make_image(rng, patient, float(level), patient_id=name, source=source)
            made += 1


def _cut(cut: Slice, tumour: Tumour, level_mm: float) -> Outline | None:
    """The outline of a tumour at a level, or None where that passes it."""
    share = 1 - ((level_mm - tumour.level_mm) / tumour.radius_mm) ** 2
    if share <= 0:
        return None
    half = tumour.radius_mm * float(np.sqrt(share))
    if tumour.ratio * half < _LEAST_MM:
        return None
    return Outline(*cut.place(tumour.across, tumour.along), half, tumour.ratio * half, tumour.tilt, tumour.shape)


def _paint(rng: np.random.Generator, cut: Slice, tumour: Tumour, outline: Outline, distance: np.ndarray) -> None:
    mm = 1 / cut.spacing_mm
    uneven = smooth_noise(rng, distance.shape, 3 * mm, 3 * mm)
    fingers = distance + 3 * smooth_noise(rng, distance.shape, 6 * mm, 6 * mm)
    swollen = np.clip(1 - fingers / np.float32(max(tumour.oedema_mm, 0.1)), 0, 1) * (cut.depth > 3)
    cut.grey += swollen * (0.72 * GREY - cut.grey) * (cut.grey > FLUID + 20)
    if tumour.kind == SOLID or outline.half_height < 4:
        cut.paint(distance, tumour.bright * (1 + 0.05 * uneven), edge_mm=0.7)
        return
    rim = np.clip(rng.uniform(1.8, 4.0) * (1 + 0.35 * uneven), 1.0, 0.45 * outline.half_height)
    cut.paint(distance, tumour.bright * (1 + 0.12 * uneven), edge_mm=0.9)
    core = rng.uniform(FLUID, 0.75 * WHITE)
    cut.paint(distance + rim, core * (1 + 0.12 * smooth_noise(rng, distance.shape, 2 * mm, 2 * mm)), edge_mm=1.0)
