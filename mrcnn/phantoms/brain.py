"""Generate axial slices of contrast-enhanced T1-weighted brain MRI with tumors.

A patient's tumors are ellipsoids in a head, which each slice intersects at its level: adjacent slices show the same
tumors in other sizes, distant slices show none. Fat is bright, bone and fluid are dark, white matter is brighter than
gray matter; vessels, dura and choroid plexus enhance. Levels are gray values before coil shading and noise; distances
are in millimeters, x to the right of the image, z to the back of the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from mrcnn.data.sample import Sample
from mrcnn.phantoms.shapes import Outline, smooth_noise, waves

CLASS_NAMES = ("tumor",)
VERSION = 1  # increase whenever the same seed gives other images
RING, SOLID = "ring", "solid"

_NUMBER_SHARES = (0.72, 0.2, 0.08)  # of patients with 1, 2, 3 tumors
_SLICES = (2, 6)  # per patient: minimum, and exclusive maximum
_LEAST_MM = 2.5  # minimum half axis of a tumor's cross section
_GAP_MM = 2.0
WHITE, GRAY, FLUID, BONE, FAT, MARROW, VESSEL = 124.0, 92.0, 34.0, 14.0, 195.0, 100.0, 205.0
_FAR = 60.0  # mm; upper bound of computed distances
_SCALP_TO_BRAIN = 3.0  # mm of fluid and dura between skull and brain


@dataclass(frozen=True)
class Head:
    """Store the head anatomy that all slices of one patient share.

    Attributes:
        half_width, half_length: outer half axes at the widest level.
        scalp, skull: thickness.
        ventricles: relative size of the lateral ventricles.
        atrophy: relative width of the sulci.
        tilt: rotation of the head in radians.
        shape: terms of the outline, see `Outline.waves`.
    """

    half_width: float
    half_length: float
    scalp: float
    skull: float
    ventricles: float
    atrophy: float
    tilt: float
    shape: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Scan:
    """Store image side in pixels, pixel size, noise and coil shading of a patient's scan."""

    pixels: int
    spacing_mm: float
    noise: float
    shading: float


def draw_head(rng: np.random.Generator) -> Head:
    """Draw the sizes of a head."""
    return Head(
        half_width=rng.uniform(68, 78),
        half_length=rng.uniform(86, 98),
        scalp=rng.uniform(3, 6),
        skull=rng.uniform(5, 8),
        ventricles=rng.uniform(0.6, 1.5),
        atrophy=rng.uniform(0.7, 1.7),
        tilt=rng.uniform(-0.12, 0.12),
        shape=waves(rng, 2, 4, 0.03),
    )


def draw_scan(rng: np.random.Generator) -> Scan:
    """Draw the properties of a scan."""
    pixels = int(rng.choice((224, 256, 288)))
    return Scan(pixels, rng.uniform(202, 232) / pixels, rng.uniform(2.0, 6.0), rng.uniform(0.03, 0.15))


class Slice:
    """Paint an axial slice.

    Args:
        level_mm: height above the bodies of the lateral ventricles, 0 to about 60 at the vertex.

    Attributes:
        x: (1, W) and z: (H, 1) positions in mm, 0 in the middle.
        gray: (H, W) float32 levels.
        depth: (H, W) below the brain's surface, negative outside.
    """

    def __init__(self, rng: np.random.Generator, head: Head, scan: Scan, level_mm: float) -> None:
        self._rng, self._scan = rng, scan
        self.spacing_mm = scan.spacing_mm
        self.x = ((np.arange(scan.pixels, dtype=np.float32) + 0.5 - scan.pixels / 2) * np.float32(scan.spacing_mm))[
            None
        ]
        self.z = np.ascontiguousarray(self.x.T)
        self.gray = np.zeros((scan.pixels, scan.pixels), np.float32)
        narrowing = float(np.sqrt(1 - (level_mm / 85) ** 2))
        self._outer = Outline(
            rng.uniform(-3, 3),
            rng.uniform(-3, 3),
            head.half_width * narrowing,
            head.half_length * narrowing,
            head.tilt + rng.uniform(-0.02, 0.02),
            head.shape,
        )
        below = -self._outer.distance(self.x, self.z, far=_FAR)
        self._paint_shell(below, head)
        self.depth = below - np.float32(head.scalp + head.skull + _SCALP_TO_BRAIN)
        self._paint_brain(head, level_mm)

    def paint(self, distance: np.ndarray, level: np.ndarray | float, *, edge_mm: float = 0.8) -> None:
        """Set the inside (distance < 0) to `level`, with an edge of ±`edge_mm`."""
        inside = np.clip(0.5 - distance / np.float32(2 * edge_mm), 0, 1)
        self.gray += inside * (level - self.gray)

    def picture(self) -> np.ndarray:
        """Render the slice (H, W) uint8 with coil shading and Rician noise (Gudbjartsson & Patz 1995)."""
        shape, scan = self.gray.shape, self._scan
        shading = 1 + scan.shading * smooth_noise(self._rng, shape, shape[0] / 2, shape[1] / 2)
        seen = gaussian_filter(self.gray, 0.55) * shading
        real, imaginary = scan.noise * self._rng.standard_normal((2, *shape), np.float32)
        return np.clip(np.rint(np.hypot(seen + real, imaginary)), 0, 255).astype(np.uint8)

    def place(self, across: float, along: float) -> tuple[float, float]:
        """Convert head coordinates, -1 (left, front) to 1 (right, back), to (x, z) in mm."""
        outer = self._outer
        u, v = across * outer.half_width, along * outer.half_height
        cosine, sine = np.cos(outer.tilt), np.sin(outer.tilt)
        return outer.x + float(u * cosine - v * sine), outer.z + float(u * sine + v * cosine)

    def _noise(self, scale_mm: float) -> np.ndarray:
        step = scale_mm / self._scan.spacing_mm
        return smooth_noise(self._rng, self.gray.shape, step, step)

    def _paint_shell(self, below: np.ndarray, head: Head) -> None:
        """Paint skin, fat, the two tables of the skull with marrow between them, fluid and the thin bright dura."""
        self.paint(-below, 110.0)
        self.paint(1.4 - below, np.clip(FAT * (1 + 0.16 * self._noise(9) + 0.1 * self._noise(2.5)), 60, 240))
        self.paint(np.float32(head.scalp) + 0.7 * self._noise(14) - below, BONE)
        marrow = np.float32(head.scalp + 0.5 * head.skull) + 0.5 * self._noise(10)
        bright = np.clip(MARROW + 30 * self._noise(12), BONE, 190)
        self.paint(np.abs(below - marrow) - np.float32(0.22 * head.skull), bright)
        within = np.float32(head.scalp + head.skull)
        self.paint(within - below, FLUID)
        self.paint(np.abs(below - within - 0.6) - 0.35, np.clip(110 + 35 * self._noise(15), 40, 190), edge_mm=0.5)

    def _paint_brain(self, head: Head, level_mm: float) -> None:
        """Paint folded cortex over white matter, the interhemispheric fissure, ventricles and enhancing vessels."""
        surface = self.depth + 0.8 * self._noise(6)
        self.paint(-surface, WHITE + 4 * self._noise(20) + 2.5 * self._noise(4))
        # Sulci follow the zero crossings of a smooth field, with cortex along them.
        folds = self._noise(5.5)
        shallow = np.clip((24 - self.depth) / 12, 0, 1) * (surface > 0)
        cortex = np.maximum(np.exp(-((folds / 0.6) ** 2)) * shallow, np.clip((4 - surface) / 2, 0, 1) * (surface > 0))
        self.gray += cortex * (GRAY - self.gray) * 0.9
        furrows = np.exp(-((folds / np.float32(0.1 * head.atrophy)) ** 2)) * np.clip((16 - self.depth) / 8, 0, 1)
        self.gray += 0.75 * furrows * (surface > 0) * (FLUID - self.gray)
        self._paint_fissure(level_mm)
        if level_mm < 35:
            self._paint_ventricles(head, level_mm)
        for _ in range(self._rng.integers(3, 10)):
            self._paint_vessel()

    def _across(self) -> np.ndarray:
        """Compute the signed distance (H, W) to the midsagittal plane, positive on the right."""
        outer = self._outer
        return (self.x - outer.x) * np.cos(outer.tilt) + (self.z - outer.z) * np.sin(outer.tilt)

    def _paint_fissure(self, level_mm: float) -> None:
        across = self._across() + 0.8 * self._noise(12)
        open_mm = np.clip(30 - self.depth, 0, 30) if level_mm < 35 else np.full_like(self.depth, 30)
        width = np.where((open_mm > 0) & (self.depth > 0), 0.9, -1.0).astype(np.float32)
        self.paint(np.abs(across) - width, FLUID + 20, edge_mm=1.0)
        self.paint(np.abs(across) - width * 0.4, 120.0, edge_mm=0.4)  # the falx enhances
        x, z = self.place(0.0, 0.86)
        sinus = Outline(x, z, self._rng.uniform(2.0, 3.5), self._rng.uniform(3.0, 5.0), self._outer.tilt)
        self.paint(sinus.distance(self.x, self.z), VESSEL)

    def _paint_ventricles(self, head: Head, level_mm: float) -> None:
        """Paint two curved ventricles with nuclei beside them; smaller towards the vertex."""
        size = head.ventricles * (1 - level_mm / 45)
        parts = ((0.06, -0.22, 0.3, 5.0, 13.0), (0.09, 0.0, -0.1, 4.0, 14.0), (0.2, 0.24, -0.5, 5.0, 15.0))
        for side in (-1, 1):
            distance = np.full_like(self.gray, 6)
            for across, along, lean, half_width, half_length in parts:
                x, z = self.place(side * (across + 0.05 * size), along)
                shape = waves(self._rng, 2, 3, 0.12)
                tilt, length = self._outer.tilt + side * lean, half_length * (0.55 + 0.45 * size)
                part = Outline(x, z, half_width * (0.4 + 0.6 * size), length, tilt, shape)
                distance = np.minimum(distance, part.distance(self.x, self.z, far=6))
            # The nuclei are along their lateral side.
            x, z = self.place(side * (0.22 + 0.05 * size), 0.0)
            nuclei = Outline(x, z, 8.0, 17.0, self._outer.tilt + side * 0.2, waves(self._rng, 2, 4, 0.1))
            self.paint(nuclei.distance(self.x, self.z, far=6), GRAY + 8, edge_mm=2.0)
            self.paint(distance + 0.5 * self._noise(5), FLUID - 6)
            if self._rng.random() < 0.7:  # the choroid plexus
                x, z = self.place(side * (0.2 + 0.05 * size), 0.25 + self._rng.uniform(-0.04, 0.04))
                plexus = Outline(x, z, 1.6, self._rng.uniform(2.0, 4.0), side * -0.4, waves(self._rng, 2, 5, 0.3))
                self.paint(plexus.distance(self.x, self.z), 180.0)

    def _paint_vessel(self) -> None:
        """Paint a bright dot or dash in the sulci."""
        x, z = self.place(*self._rng.uniform(-0.75, 0.75, 2))
        size = self._rng.uniform(0.5, 1.1), self._rng.uniform(0.8, 3.5)
        vessel = Outline(x, z, *size, self._rng.uniform(0, np.pi)).distance(self.x, self.z)
        self.paint(np.where(self.depth > 0, vessel, 1), self._rng.uniform(150, VESSEL), edge_mm=0.5)


@dataclass(frozen=True)
class Tumor:
    """Describe a tumor.

    Attributes:
        kind: `ring` enhances around a necrotic core, with edema; `solid` is homogeneous.
        across, along: center in head coordinates, from -1 to 1.
        level_mm: level of the center.
        radius_mm: half of the height, and longer half axis of the largest cross section.
        ratio: shorter half axis divided by the longer one.
        tilt: radians.
        shape: terms of the outline, see `Outline.waves`.
        bright: gray level of enhancing tissue.
        edema_mm: width of the edema.
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
    edema_mm: float


@dataclass(frozen=True)
class Patient:
    """Store what all slices of one patient share."""

    head: Head
    scan: Scan
    tumors: tuple[Tumor, ...]


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a patient with one to three tumors; slices of 224–288 pixels a side, pixels of 0.77–1.1 mm."""
    head, scan = draw_head(rng), draw_scan(rng)
    number = 1 + int(rng.choice(3, p=_NUMBER_SHARES))
    return Patient(head, scan, tuple(_draw_tumor(rng, number) for _ in range(number)))


def _draw_tumor(rng: np.random.Generator, number: int) -> Tumor:
    kind = RING if rng.random() < 0.55 else SOLID
    largest = {1: 26.0, 2: 18.0, 3: 13.0}[number]
    angle, reach = rng.uniform(0, 2 * np.pi), (rng.uniform(0.2, 0.62) if kind == RING else rng.uniform(0.35, 0.68))
    return Tumor(
        kind=kind,
        across=reach * float(np.cos(angle)),
        along=reach * float(np.sin(angle)),
        level_mm=rng.uniform(5, 40),
        radius_mm=rng.uniform(5.0, largest),
        ratio=rng.uniform(0.65, 1.0),
        tilt=rng.uniform(0, np.pi),
        shape=waves(rng, 2, 7, 0.2) if kind == RING else waves(rng, 2, 5, 0.09),
        bright=rng.uniform(168, 240),
        edema_mm=rng.uniform(2, 14) if kind == RING else rng.uniform(0, 5),
    )


def make_image(
    rng: np.random.Generator,
    patient: Patient,
    level_mm: float,
    *,
    patient_id: str = "phantom",
    source: str = "phantom.png",
) -> Sample:
    """Generate the slice of a patient at a level, 0 mm at the ventricles to about 60 mm at the vertex.

    Returns:
        image (H, W, 1) uint8, a mask per tumor (enhancing tissue and all inside it), class ids into `CLASS_NAMES`,
        pixel size in mm.
    """
    cut = Slice(rng, patient.head, patient.scan, level_mm)
    blocked, masks = cut.depth < 1.0, []
    for tumor in patient.tumors:
        outline = _cut(cut, tumor, level_mm)
        if outline is None:
            continue
        distance = outline.distance(cut.x, cut.z, far=20.0)
        mask = distance < 0
        if not mask.any() or blocked[mask].any():  # it would extend beyond the brain or into another tumor
            continue
        _paint(rng, cut, tumor, outline, distance)
        masks.append(mask)
        blocked |= distance < _GAP_MM
    spacing = round(patient.scan.spacing_mm, 4)
    stacked = np.stack(masks) if masks else np.zeros((0, *cut.gray.shape), bool)
    class_ids = np.ones(len(masks), np.int32)
    return Sample(cut.picture()[..., None], stacked, class_ids, patient_id, source, (spacing, spacing))


def make_images(images: int, seed: int) -> Iterator[Sample]:
    """Generate `images` slices, two to five per patient; the first n images do not depend on `images`."""
    made = number = 0
    while made < images:
        number += 1
        rng = np.random.default_rng((seed, number))
        patient = draw_patient(rng)
        count = int(rng.integers(*_SLICES))
        # Most levels intersect the tumors, some miss them.
        center = patient.tumors[0].level_mm + rng.uniform(-8, 8)
        levels = np.clip(center + rng.uniform(5, 9) * (np.arange(count) - (count - 1) / 2), 0, 55)
        for view, level in enumerate(levels[: images - made], start=1):
            name = f"{number:04d}"
            source = f"phantom---{name}-i{view}.png"
            yield make_image(rng, patient, float(level), patient_id=name, source=source)
            made += 1


def _cut(cut: Slice, tumor: Tumor, level_mm: float) -> Outline | None:
    """Compute a tumor's outline at a level; None if the level misses it."""
    share = 1 - ((level_mm - tumor.level_mm) / tumor.radius_mm) ** 2
    if share <= 0:
        return None
    half = tumor.radius_mm * float(np.sqrt(share))
    if tumor.ratio * half < _LEAST_MM:
        return None
    return Outline(*cut.place(tumor.across, tumor.along), half, tumor.ratio * half, tumor.tilt, tumor.shape)


def _paint(rng: np.random.Generator, cut: Slice, tumor: Tumor, outline: Outline, distance: np.ndarray) -> None:
    mm = 1 / cut.spacing_mm
    uneven = smooth_noise(rng, distance.shape, 3 * mm, 3 * mm)
    fingers = distance + 3 * smooth_noise(rng, distance.shape, 6 * mm, 6 * mm)
    swollen = np.clip(1 - fingers / np.float32(max(tumor.edema_mm, 0.1)), 0, 1) * (cut.depth > 3)
    cut.gray += swollen * (0.72 * GRAY - cut.gray) * (cut.gray > FLUID + 20)
    if tumor.kind == SOLID or outline.half_height < 4:
        cut.paint(distance, tumor.bright * (1 + 0.05 * uneven), edge_mm=0.7)
        return
    rim = np.clip(rng.uniform(1.8, 4.0) * (1 + 0.35 * uneven), 1.0, 0.45 * outline.half_height)
    cut.paint(distance, tumor.bright * (1 + 0.12 * uneven), edge_mm=0.9)
    core = rng.uniform(FLUID, 0.75 * WHITE)
    cut.paint(distance + rim, core * (1 + 0.12 * smooth_noise(rng, distance.shape, 2 * mm, 2 * mm)), edge_mm=1.0)
