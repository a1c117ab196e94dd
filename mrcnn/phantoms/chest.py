"""Generate frontal chest X-rays with both lungs, or with one where the other is opaque.

The attenuation along the beam (bone, heart, abdomen, air) is painted in units of the chest's half width and converted
to gray values, white where no beam passes. The patient's right is on the left of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mrcnn.data.sample import Sample
from mrcnn.phantoms.shapes import smooth_noise

VERSION = 1  # increase whenever the same seed gives other images
CLASS_NAMES = ("left_lung", "right_lung")
LEFT, RIGHT = 1, 2
_HALF_WIDTH_MM = 150.0
_OPAQUE_SHARE = 0.12


@dataclass(frozen=True)
class Patient:
    """Store what all images of one patient share; lengths in half widths of the chest, y from the apices down.

    Attributes:
        height: of the lungs, apex to the top of the diaphragm.
        apex: distance of the apices from the midline.
        width: of the lungs at their widest, from the midline.
        heart: extent of the heart to the patient's left.
        domes: height of the left and right dome of the diaphragm above the costophrenic angles.
        opaque: class of the completely opaque lung, or 0.
        size: (height, width) of the images in pixels.
    """

    height: float
    apex: float
    width: float
    heart: float
    domes: tuple[float, float]
    opaque: int
    size: tuple[int, int]


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a patient; images of 256–352 × 256–384 pixels."""
    opaque = int(rng.choice((0, LEFT, RIGHT), p=(1 - _OPAQUE_SHARE, _OPAQUE_SHARE / 2, _OPAQUE_SHARE / 2)))
    width = int(rng.integers(256, 385))
    return Patient(
        height=rng.uniform(1.25, 1.7),
        apex=rng.uniform(0.32, 0.4),
        width=rng.uniform(0.82, 0.92),
        heart=rng.uniform(0.38, 0.58),
        domes=(rng.uniform(0.16, 0.26), rng.uniform(0.2, 0.32)),
        opaque=opaque,
        size=(int(np.clip(round(width * rng.uniform(0.85, 1.1)), 256, 352)), width),
    )


def make_image(
    rng: np.random.Generator,
    *,
    patient: Patient | None = None,
    patient_id: str = "phantom",
    source: str = "phantom.png",
) -> Sample:
    """Generate one chest X-ray, of a new patient by default; the same state of `rng` gives the same image.

    Returns:
        image (H, W, 1) uint8, a mask per lung that is not opaque, class ids into `CLASS_NAMES`, pixel size in mm.
    """
    patient = patient or draw_patient(rng)
    width = patient.size[1]
    unit = width / rng.uniform(2.15, 2.5)  # pixels of the chest's half width
    x, y = _grid(rng, patient, unit)
    lungs = {class_id: _lung(rng, patient, x, y, class_id) for class_id in (LEFT, RIGHT)}
    density = _paint(rng, patient, x, y, lungs, unit)
    film = np.maximum(density, 0) / (0.6 + np.maximum(density, 0))
    film = ndimage.gaussian_filter(film, rng.uniform(0.5, 0.9))
    film += rng.uniform(0.006, 0.018) * rng.standard_normal(film.shape)
    low, high = np.percentile(film, (1, 99.5))
    film = np.clip((film - low) / (high - low), 0, 1) ** rng.uniform(0.8, 1.25)
    shown = [class_id for class_id in lungs if class_id != patient.opaque]
    spacing = round(_HALF_WIDTH_MM / unit, 4)
    return Sample(
        np.rint(255 * film).astype(np.uint8)[..., None],
        np.stack([lungs[class_id] for class_id in shown]),
        np.array(shown, np.int32),
        patient_id,
        source,
        (spacing, spacing),
    )


def make_images(images: int, seed: int) -> Iterator[Sample]:
    """Generate `images` X-rays, one to three per patient; the first n images do not depend on `images`."""
    made = number = 0
    while made < images:
        number += 1
        rng = np.random.default_rng((seed, number))
        patient = draw_patient(rng)
        for view in range(1, 1 + min(int(rng.integers(1, 4)), images - made)):
            name = f"{number:04d}"
            yield make_image(rng, patient=patient, patient_id=f"phantom_{name}", source=f"{name}_{view}.png")
            made += 1


def _grid(rng: np.random.Generator, patient: Patient, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the position (H, W) of each pixel, x from the midline and y from the apices, with a random pose."""
    height, width = patient.size
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    whole = patient.height + max(patient.domes)
    dx = (columns - width * rng.uniform(0.46, 0.54)) / unit
    dy = (rows - height / 2) / unit + whole / 2 + rng.uniform(-0.06, 0.06)
    turn = np.float32(np.deg2rad(rng.normal(0, 2)))
    middle = np.float32(whole / 2)
    x = dx * np.cos(turn) + (dy - middle) * np.sin(turn)
    return x, (dy - middle) * np.cos(turn) - dx * np.sin(turn) + middle


def _lung(rng: np.random.Generator, patient: Patient, x: np.ndarray, y: np.ndarray, class_id: int) -> np.ndarray:
    """Draw the mask (H, W) bool of one lung, between its medial and lateral border and above the diaphragm."""
    side = 1 if class_id == LEFT else -1
    across = side * x
    bottom = patient.height + patient.domes[class_id - 1]
    t = np.clip(y / bottom, 0, 1)
    reach = patient.width * rng.uniform(0.97, 1.03)
    outer = patient.apex + (reach - patient.apex) * (1 - (1 - t) ** 2.6) ** 0.75
    inner = patient.apex - (patient.apex - 0.15) * np.sqrt(1 - (1 - np.clip(t / 0.3, 0, 1)) ** 2)
    heart = patient.heart - 0.15 if class_id == LEFT else 0.1
    inner = inner + heart * np.exp(-(((t - 0.85) / 0.22) ** 2))
    waves = 0.012 * np.sin(2 * np.pi * (t * rng.uniform(2, 4) + rng.random()))
    center, spread = 0.55 * reach, 0.62 * reach
    dome = bottom - patient.domes[class_id - 1] * (1 - np.abs((across - center) / spread) ** 2.5)
    mask = (across > inner + waves) & (across < outer + waves) & (y > 0) & (y < dome)
    labels, _ = ndimage.label(mask)  # pyright: ignore[reportGeneralTypeIssues]  # stub of SciPy
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1


def _paint(
    rng: np.random.Generator, patient: Patient, x: np.ndarray, y: np.ndarray, lungs: dict[int, np.ndarray], unit: float
) -> np.ndarray:
    """Paint the attenuation (H, W) along the beam; 0 is air."""
    bottom = patient.height + max(patient.domes)
    across = np.abs(x)
    chest = _soft(across - 1.04 - 0.5 * np.clip(0.45 - y, 0, 0.6) ** 1.5, 0.05)  # wider towards the shoulders
    shoulders = _soft(-(y + 0.2 - 0.45 * np.maximum(across - 0.25, 0) ** 1.3), 0.05)
    neck = _soft(across - 0.34, 0.06)
    body = np.maximum(chest * shoulders, neck * _soft(-(y + 1), 0.05))
    uneven = smooth_noise(rng, x.shape, 0.3 * unit, 0.3 * unit)
    density = body * (0.95 + 0.1 * uneven - 0.35 * np.clip(across - 0.75, 0, 0.5))  # the flanks are thin

    heart = np.hypot((x - 0.3 * patient.heart) / (0.75 * patient.heart), (y - 0.82 * patient.height) / 0.42)
    density += 0.3 * _soft(heart - 0.8, 0.4) + 0.3 * _soft(across - 0.17, 0.1)
    density += 0.25 * _soft(across - 0.09, 0.03) * (1 + 0.3 * np.sin(2 * np.pi * y / 0.17))  # spine
    density -= 0.35 * _soft(np.maximum(across - 0.06, y - 0.42), 0.03) * body  # trachea
    for side, depth in ((1, patient.domes[LEFT - 1]), (-1, patient.domes[RIGHT - 1])):
        level = patient.height + depth * np.clip((side * x - 0.5) / 0.55, -1, 1) ** 2
        density += 0.45 * _soft(np.maximum(level - y, -side * x), 0.03) * body
    bubble = np.hypot((x - 0.5) / 0.16, (y - patient.height - 0.2) / 0.08)
    density -= rng.uniform(0, 0.5) * _soft(bubble - 1, 0.15)

    blur = 0.018 * unit
    for class_id, mask in lungs.items():
        air = ndimage.gaussian_filter(mask.astype(np.float32), blur)
        side = 1 if class_id == LEFT else -1
        hilum = np.hypot(side * x - 0.22, (y - 0.5 * patient.height) * 0.7)
        vessels = smooth_noise(rng, x.shape, 0.035 * unit, 0.035 * unit)
        marked = 0.3 * np.exp(-hilum / 0.2) + 0.16 * np.maximum(vessels, 0) * np.exp(-hilum / 0.4)
        if class_id == patient.opaque:
            air = 0.12 * air
        density -= air * (0.8 - marked - 0.12 * y / bottom)
    return density + _bones(rng, patient, x, y) * np.clip(body + neck, 0, 1)


def _bones(rng: np.random.Generator, patient: Patient, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Paint posterior ribs, fainter anterior ribs, and the clavicles."""
    bones = np.zeros_like(x)
    across = np.abs(x)
    count = 10
    for number in range(count):
        top = -0.05 + number * (patient.height + 0.1) / count
        reach = 1.0 - 0.35 * np.exp(-(number + 0.5) / 1.5)
        behind = top - 0.1 * np.sin(np.pi * np.clip(across / reach, 0, 1)) + 0.24 * (across / reach) ** 2
        front = top + 0.34 - 0.22 * (across / reach) ** 1.5 + 0.12
        for line, strength, thick in ((behind, 0.13, 0.032), (front, 0.06, 0.028)):
            off = np.abs(y - line) / thick
            # Ribs are tubes: their borders are denser.
            bones += (
                strength * (_soft(off - 1, 0.25) * (0.7 + 0.5 * np.clip(off, 0, 1) ** 2)) * _soft(across - reach, 0.04)
            )
    collar = np.abs(y - (0.16 - 0.2 * (across - 0.1) + 0.05 * np.sin(5 * across))) / 0.035
    return bones + 0.22 * _soft(collar - 1, 0.3) * _soft(np.abs(across - 0.5) - 0.45, 0.04) * rng.uniform(0.7, 1.2)


def _soft(distance: np.ndarray, edge: float) -> np.ndarray:
    """Compute 1 where `distance` is negative and 0 where it is positive, with a linear edge of ±`edge`."""
    return np.clip(0.5 - distance / (2 * edge), 0, 1)
