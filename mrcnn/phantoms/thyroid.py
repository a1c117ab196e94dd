"""B-mode ultrasound of the thyroid with iso- and hypoechoic nodules, in transverse slices, from a seed.

A slice is painted as tissue in millimetres (`neck`, `nodules`), then seen through a scanner (`speckle`): so shadows,
enhancement, blurred edges and speckle follow from the tissue and need no drawing of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mrcnn.data.sample import Sample
from mrcnn.phantoms import neck_painting as painting
from mrcnn.phantoms.neck import Habitus, draw_habitus, lay_out, thyroid_distance
from mrcnn.phantoms.nodules import CLASS_NAMES, draw_nodules, paint_nodule, place
from mrcnn.phantoms.speckle import Scanner, b_mode, smooth_noise
from mrcnn.phantoms.tissue import Tissue

__all__ = ["CLASS_NAMES", "VERSION", "Patient", "draw_patient", "make_image", "make_images"]

VERSION = 5  # rises whenever the same seed gives other pictures
_WIDE_MM = 42.0  # from this width on a picture can hold both lobes


@dataclass(frozen=True)
class Patient:
    """What the images of one patient share: anatomy, scanner settings, depth in mm and the picture's size in pixels."""

    habitus: Habitus
    scanner: Scanner
    depth_mm: float
    height: int
    width: int


def draw_patient(rng: np.random.Generator) -> Patient:
    """A patient at a scanner; pictures of 240–360 by 300–560 pixels, 0.07–0.15 mm each."""
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
    height: int | None = None,
    width: int | None = None,
    *,
    patient: Patient | None = None,
    patient_id: str = "phantom",
    source: str = "phantom.png",
) -> Sample:
    """One slice with 0–3 nodules.

    Args:
        rng: all chance comes from it; a generator in the same state gives the same picture.
        height, width: in pixels; the patient's where left out.
        patient: one is drawn where left out.

    Returns:
        image (H, W, 1) uint8, a mask a nodule, class ids into `CLASS_NAMES`, and the side of a pixel in mm.
    """
    patient = patient or draw_patient(rng)
    height, width = height or patient.height, width or patient.width
    tissue = Tissue(height, width, patient.depth_mm / height)
    habitus, extent = patient.habitus, tissue.extent

    both = extent[1] >= _WIDE_MM and rng.random() < 0.45
    sides = (-1, 1) if both else (int(rng.choice((-1, 1))),)
    nodules = draw_nodules(rng, *extent, share=0.75 if both else 1.0)
    lobes = [int(rng.integers(len(sides))) for _ in nodules]
    held = dict.fromkeys(sides, 0.0)
    for nodule, lobe in zip(nodules, lobes, strict=True):  # largest first; further ones need less than their length
        held[sides[lobe]] += nodule.long_mm * (0.6 if held[sides[lobe]] else 1)

    neck = lay_out(rng, tissue, habitus, held)
    thyroid = thyroid_distance(tissue, neck, habitus)
    nodules, masks = place(rng, nodules, tissue, neck, thyroid, lobes)
    for nodule in nodules:  # a nodule near the surface lifts the capsule before it
        thyroid = np.minimum(thyroid, nodule.outline.distance(tissue.x, tissue.z) - 0.9)

    painting.paint_surroundings(rng, tissue, neck, habitus)
    painting.paint_vessels(rng, tissue, neck)
    painting.paint_thyroid(rng, tissue, thyroid, habitus)
    for nodule in nodules:
        paint_nodule(rng, tissue, nodule)
    painting.paint_trachea(rng, tissue, neck.trachea)

    received = tissue.received() + _settings(rng, tissue)
    scanner = replace(patient.scanner, gain_db=patient.scanner.gain_db + rng.uniform(-2.5, 2.5))
    picture = b_mode(rng, tissue.level + received, tissue.mirror * 10 ** (received / 20), tissue.spacing, scanner)
    spacing = round(tissue.spacing, 4)
    class_ids = np.array([nodule.class_id for nodule in nodules], np.int32)
    return Sample(picture[..., None], masks, class_ids, patient_id, source, (spacing, spacing))


def make_images(images: int, seed: int) -> Iterator[Sample]:
    """`images` slices, one to four of a patient; a longer series begins with the shorter one of the same seed."""
    made = number = 0
    while made < images:
        number += 1
        rng = np.random.default_rng((seed, number))
        patient = draw_patient(rng)
        for view in range(1, 1 + min(int(rng.integers(1, 5)), images - made)):
            name = f"{number:04d}"
            yield make_image(rng, patient=patient, patient_id=f"phantom_{name}", source=f"{name}_{view}.png")
            made += 1


def _settings(rng: np.random.Generator, tissue: Tissue) -> np.ndarray:
    """(H, W) dB: time-gain compensation that is a little off and ends too early, and poor contact at an edge."""
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
