"""Generate B-mode ultrasound of the thyroid with iso- and hypoechoic nodules, in transverse slices.

A slice is painted as tissue in millimeters (`neck` and the nodules here) and imaged by a simulated scanner
(`ultrasound`), so shadows, enhancement, blurred edges and speckle follow from the tissue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mrcnn.data.loading.prefetch import map_in_threads
from mrcnn.data.sample import Sample
from mrcnn.phantoms.neck import (
    FLUID_DB,
    Habitus,
    Neck,
    draw_habitus,
    lay_out,
    paint_surroundings,
    paint_thyroid,
    paint_trachea,
    paint_vessels,
    thyroid_distance,
)
from mrcnn.phantoms.shapes import Outline, smooth_noise, waves
from mrcnn.phantoms.ultrasound import Scanner, Tissue, b_mode

VERSION = 5  # increase whenever the same seed gives other images
CLASS_NAMES = ("iso", "hypo")
ISO, HYPO = 1, 2

_NUMBER_SHARES = (0.12, 0.46, 0.28, 0.14)  # of images with 0, 1, 2, 3 nodules
_LARGEST = {1: 0.45, 2: 0.28, 3: 0.2}  # long diameter as a fraction of the image width, by number of nodules
_SMALLEST = {ISO: 0.1, HYPO: 0.075}  # below this size a halo looks like a dark nodule
_GAP_MM = 0.6
_WIDE_MM = 42.0  # images of at least this width can show both lobes


@dataclass(frozen=True)
class Nodule:
    """Store a nodule's class, margin and outline; `place_nodules` sets the center."""

    class_id: int
    margin: str
    outline: Outline

    @property
    def long_mm(self) -> float:
        return _long(self.outline)


def draw_nodules(rng: np.random.Generator, height_mm: float, width_mm: float, share: float = 1.0) -> list[Nodule]:
    """Draw zero to three nodules, largest first, at most `share` times the usual length."""
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
    # Suspicious shapes (taller than wide, irregular, lobulated) are more frequent in hypoechoic nodules (ACR TI-RADS).
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


def place_nodules(
    rng: np.random.Generator, nodules: list[Nodule], tissue: Tissue, neck: Neck, thyroid: np.ndarray, lobes: list[int]
) -> tuple[list[Nodule], np.ndarray]:
    """Move nodules to positions where they fit; return those nodules and their masks (N, H, W) bool.

    A nodule is mostly inside the thyroid, does not overlap trachea, arteries or other nodules, and is completely inside
    the image. A nodule that does not fit is made smaller, and dropped after 60 attempts. `thyroid` (H, W) is the signed
    distance to the thyroid, `lobes` the index of each nodule's lobe in `neck.lobes`.
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
    """Paint a hypoechoic nodule (darker than the thyroid) or an isoechoic one (similar, with a thin dark halo)."""
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
    """Paint a cystic component inside the nodule, off its center."""
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
    """Paint punctate calcifications, or rarely one coarse calcification with a shadow."""
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


@dataclass(frozen=True)
class Patient:
    """Store what all images of one patient share: anatomy, scanner, depth in mm and image size in pixels."""

    habitus: Habitus
    scanner: Scanner
    depth_mm: float
    height: int
    width: int


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a patient and a scanner; images of 240–360 × 300–560 pixels of 0.07–0.15 mm."""
    width = int(rng.integers(300, 561))
    height = int(np.clip(round(width * rng.uniform(0.64, 0.84)), 240, 360))
    axial = rng.uniform(0.1, 0.14)
    scanner = Scanner(
        axial_mm=axial,
        lateral_mm=axial * rng.uniform(1.9, 2.8),
        focus=rng.uniform(0.35, 0.6),
        looks=int(rng.integers(2, 4)),
        dynamic_range_db=rng.uniform(50, 60),
        gain_db=rng.uniform(22, 28),
        noise_db=rng.uniform(-42, -34),
    )
    return Patient(draw_habitus(rng), scanner, rng.uniform(27, 36), height, width)


def make_image(
    rng: np.random.Generator,
    *,
    patient: Patient | None = None,
    patient_id: str = "phantom",
    source: str = "phantom.png",
) -> Sample:
    """Generate one slice with 0–3 nodules, of a new patient by default; the same state of `rng` gives the same image.

    Returns:
        image (H, W, 1) uint8, a mask per nodule, class ids into `CLASS_NAMES`, pixel size in mm.
    """
    patient = patient or draw_patient(rng)
    tissue = Tissue(patient.height, patient.width, patient.depth_mm / patient.height)
    habitus, extent = patient.habitus, tissue.extent

    both = extent[1] >= _WIDE_MM and rng.random() < 0.45
    sides = (-1, 1) if both else (int(rng.choice((-1, 1))),)
    nodules = draw_nodules(rng, *extent, share=0.75 if both else 1.0)
    lobes = [int(rng.integers(len(sides))) for _ in nodules]
    nodules_mm = dict.fromkeys(sides, 0.0)
    for nodule, lobe in zip(nodules, lobes, strict=True):  # largest first; later ones can lie beside it
        nodules_mm[sides[lobe]] += nodule.long_mm * (0.6 if nodules_mm[sides[lobe]] else 1)

    neck = lay_out(rng, tissue, habitus, nodules_mm)
    thyroid = thyroid_distance(tissue, neck, habitus)
    nodules, masks = place_nodules(rng, nodules, tissue, neck, thyroid, lobes)
    for nodule in nodules:  # a nodule near the surface displaces the capsule
        thyroid = np.minimum(thyroid, nodule.outline.distance(tissue.x, tissue.z) - 0.9)

    paint_surroundings(rng, tissue, neck, habitus)
    paint_vessels(rng, tissue, neck)
    paint_thyroid(rng, tissue, thyroid, habitus)
    for nodule in nodules:
        paint_nodule(rng, tissue, nodule)
    paint_trachea(rng, tissue, neck.trachea)

    received = tissue.received() + _settings(rng, tissue)
    scanner = replace(patient.scanner, gain_db=patient.scanner.gain_db + rng.uniform(-2.5, 2.5))
    picture = b_mode(rng, tissue.level + received, tissue.mirror * 10 ** (received / 20), tissue.spacing, scanner)
    spacing = round(tissue.spacing, 4)
    class_ids = np.array([nodule.class_id for nodule in nodules], np.int32)
    return Sample(picture[..., None], masks, class_ids, patient_id, source, (spacing, spacing))


def make_images(images: int, seed: int) -> Iterator[Sample]:
    """Generate `images` slices, one to four per patient; the first n images do not depend on `images`."""
    return map_in_threads(_make_views, _draw_patients(images, seed))


def _draw_patients(images: int, seed: int) -> Iterator[tuple[np.random.Generator, Patient, int, int]]:
    """Draw patients, each with its random state, its number and its number of images, `images` in all."""
    number = 0
    while images:
        number += 1
        rng = np.random.default_rng((seed, number))
        patient = draw_patient(rng)
        views = min(int(rng.integers(1, 5)), images)
        images -= views
        yield rng, patient, number, views


def _make_views(drawn: tuple[np.random.Generator, Patient, int, int]) -> list[Sample]:
    rng, patient, number, views = drawn
    name = f"{number:04d}"
    return [
        make_image(rng, patient=patient, patient_id=f"phantom_{name}", source=f"{name}_{view}.png")
        for view in range(1, 1 + views)
    ]


def _settings(rng: np.random.Generator, tissue: Tissue) -> np.ndarray:
    """Draw gain errors (H, W) in dB: inaccurate time-gain compensation, and poor probe contact at one edge."""
    height, width = tissue.shape
    depth = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    gain = rng.uniform(-5, 1) * depth - rng.uniform(0, 24) * np.maximum(depth, 0) ** 2
    gain = gain + rng.uniform(0.2, 1.0) * smooth_noise(rng, (height, 1), height / 6, 1)
    gain = gain + 0.6 * smooth_noise(rng, (1, width), 1, width / 10)
    if rng.random() < 0.35:
        edge = tissue.extent[1] / 2 - rng.uniform(0.5, 3.0)
        beyond = np.maximum(tissue.x * rng.choice((-1, 1)) - np.float32(edge), 0)
        gain = gain - rng.uniform(4, 12) * beyond
    return np.asarray(gain, np.float32)
