"""An axial slice of the head as T1-weighted MRI shows it after contrast agent, from a seed.

Fat is bright, bone and fluid are dark, white matter is brighter than grey; vessels, dura and choroid plexus take up
contrast agent. Levels are grey values before the coil's shading and noise; distances are in millimetres, x to the right
of the screen, z to the back of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from mrcnn.phantoms.outline import Outline, waves
from mrcnn.phantoms.speckle import smooth_noise

WHITE, GREY, FLUID, BONE, FAT, MARROW, VESSEL = 124.0, 92.0, 34.0, 14.0, 195.0, 100.0, 205.0
_FAR = 60.0  # mm within which distances to outlines are known
_SCALP_TO_BRAIN = 3.0  # mm of fluid and dura between skull and brain


@dataclass(frozen=True)
class Head:
    """What the slices of one patient share.

    Attributes:
        half_width, half_length: outer half axes at the widest level.
        scalp, skull: thickness of each.
        ventricles: size of the lateral ventricles; 1 is usual.
        atrophy: width of the furrows between the folds of the brain; 1 is usual.
        tilt: radians, of the head in the scanner.
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
    """How one patient was scanned: pixels a side, their size, noise and shading of the coil."""

    pixels: int
    spacing_mm: float
    noise: float
    shading: float


def draw_head(rng: np.random.Generator) -> Head:
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
    pixels = int(rng.choice((224, 256, 288)))
    return Scan(pixels, rng.uniform(202, 232) / pixels, rng.uniform(2.0, 6.0), rng.uniform(0.03, 0.15))


class Slice:
    """A slice being painted.

    Args:
        level_mm: height above the bodies of the lateral ventricles, from 0 to about 60 at the vertex.

    Attributes:
        x: (1, W) and z: (H, 1) positions in mm, 0 in the middle.
        grey: (H, W) float32 levels.
        depth: (H, W) below the brain's surface, negative outside.
    """

    def __init__(self, rng: np.random.Generator, head: Head, scan: Scan, level_mm: float) -> None:
        self._rng, self._scan = rng, scan
        self.spacing_mm = scan.spacing_mm
        self.x = ((np.arange(scan.pixels, dtype=np.float32) + 0.5 - scan.pixels / 2) * np.float32(scan.spacing_mm))[
            None
        ]
        self.z = np.ascontiguousarray(self.x.T)
        self.grey = np.zeros((scan.pixels, scan.pixels), np.float32)
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
        """Replaces what lies inside (distance < 0) by `level`, fading over ±`edge_mm`."""
        inside = np.clip(0.5 - distance / np.float32(2 * edge_mm), 0, 1)
        self.grey += inside * (level - self.grey)

    def picture(self) -> np.ndarray:
        """(H, W) uint8: the slice under a coil's shading, with Rician noise (Gudbjartsson and Patz 1995)."""
        shape, scan = self.grey.shape, self._scan
        shading = 1 + scan.shading * smooth_noise(self._rng, shape, shape[0] / 2, shape[1] / 2)
        seen = gaussian_filter(self.grey, 0.55) * shading
        real, imaginary = scan.noise * self._rng.standard_normal((2, *shape), np.float32)
        return np.clip(np.rint(np.hypot(seen + real, imaginary)), 0, 255).astype(np.uint8)

    def place(self, across: float, along: float) -> tuple[float, float]:
        """(x, z) in mm of a place in the head's own axes, from -1 (left, front) to 1 (right, back)."""
        outer = self._outer
        u, v = across * outer.half_width, along * outer.half_height
        cosine, sine = np.cos(outer.tilt), np.sin(outer.tilt)
        return outer.x + float(u * cosine - v * sine), outer.z + float(u * sine + v * cosine)

    def _noise(self, scale_mm: float) -> np.ndarray:
        step = scale_mm / self._scan.spacing_mm
        return smooth_noise(self._rng, self.grey.shape, step, step)

    def _paint_shell(self, below: np.ndarray, head: Head) -> None:
        """Skin, fat, the two tables of the skull with marrow between, fluid, and the thin bright dura."""
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
        """Folded cortex over white matter, the fissure between the halves, ventricles, and what takes up contrast."""
        surface = self.depth + 0.8 * self._noise(6)
        self.paint(-surface, WHITE + 4 * self._noise(20) + 2.5 * self._noise(4))
        # Furrows run where a smooth field changes its sign, and cortex lies along them.
        folds = self._noise(5.5)
        shallow = np.clip((24 - self.depth) / 12, 0, 1) * (surface > 0)
        cortex = np.maximum(np.exp(-((folds / 0.6) ** 2)) * shallow, np.clip((4 - surface) / 2, 0, 1) * (surface > 0))
        self.grey += cortex * (GREY - self.grey) * 0.9
        furrows = np.exp(-((folds / np.float32(0.1 * head.atrophy)) ** 2)) * np.clip((16 - self.depth) / 8, 0, 1)
        self.grey += 0.75 * furrows * (surface > 0) * (FLUID - self.grey)
        self._paint_fissure(level_mm)
        if level_mm < 35:
            self._paint_ventricles(head, level_mm)
        for _ in range(self._rng.integers(3, 10)):
            self._paint_vessel()

    def _across(self) -> np.ndarray:
        """(H, W) distance to the middle plane, to the right."""
        outer = self._outer
        return (self.x - outer.x) * np.cos(outer.tilt) + (self.z - outer.z) * np.sin(outer.tilt)

    def _paint_fissure(self, level_mm: float) -> None:
        across = self._across() + 0.8 * self._noise(12)
        open_mm = np.clip(30 - self.depth, 0, 30) if level_mm < 35 else np.full_like(self.depth, 30)
        width = np.where((open_mm > 0) & (self.depth > 0), 0.9, -1.0).astype(np.float32)
        self.paint(np.abs(across) - width, FLUID + 20, edge_mm=1.0)
        self.paint(np.abs(across) - width * 0.4, 120.0, edge_mm=0.4)  # the falx takes up contrast
        x, z = self.place(0.0, 0.86)
        sinus = Outline(x, z, self._rng.uniform(2.0, 3.5), self._rng.uniform(3.0, 5.0), self._outer.tilt)
        self.paint(sinus.distance(self.x, self.z), VESSEL)

    def _paint_ventricles(self, head: Head, level_mm: float) -> None:
        """Two bent horns with the nuclei beside them; smaller towards the vertex."""
        size = head.ventricles * (1 - level_mm / 45)
        parts = ((0.06, -0.22, 0.3, 5.0, 13.0), (0.09, 0.0, -0.1, 4.0, 14.0), (0.2, 0.24, -0.5, 5.0, 15.0))
        for side in (-1, 1):
            distance = np.full_like(self.grey, 6)
            for across, along, lean, half_width, half_length in parts:
                x, z = self.place(side * (across + 0.05 * size), along)
                shape = waves(self._rng, 2, 3, 0.12)
                tilt, length = self._outer.tilt + side * lean, half_length * (0.55 + 0.45 * size)
                part = Outline(x, z, half_width * (0.4 + 0.6 * size), length, tilt, shape)
                distance = np.minimum(distance, part.distance(self.x, self.z, far=6))
            # The nuclei lie along their outer side.
            x, z = self.place(side * (0.22 + 0.05 * size), 0.0)
            nuclei = Outline(x, z, 8.0, 17.0, self._outer.tilt + side * 0.2, waves(self._rng, 2, 4, 0.1))
            self.paint(nuclei.distance(self.x, self.z, far=6), GREY + 8, edge_mm=2.0)
            self.paint(distance + 0.5 * self._noise(5), FLUID - 6)
            if self._rng.random() < 0.7:  # the choroid plexus
                x, z = self.place(side * (0.2 + 0.05 * size), 0.25 + self._rng.uniform(-0.04, 0.04))
                plexus = Outline(x, z, 1.6, self._rng.uniform(2.0, 4.0), side * -0.4, waves(self._rng, 2, 5, 0.3))
                self.paint(plexus.distance(self.x, self.z), 180.0)

    def _paint_vessel(self) -> None:
        """A bright dot or dash in the furrows."""
        x, z = self.place(*self._rng.uniform(-0.75, 0.75, 2))
        size = self._rng.uniform(0.5, 1.1), self._rng.uniform(0.8, 3.5)
        vessel = Outline(x, z, *size, self._rng.uniform(0, np.pi)).distance(self.x, self.z)
        self.paint(np.where(self.depth > 0, vessel, 1), self._rng.uniform(150, VESSEL), edge_mm=0.5)
