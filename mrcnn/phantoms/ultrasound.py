"""Simulate a B-mode ultrasound image: maps of one tissue slice, scatterers, point spread, noise, log compression."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d


class Tissue:
    """Store the acoustic maps of one slice; distances in millimeters, levels in dB with thyroid tissue at 0 dB.

    Attributes:
        x: (1, W) lateral position, 0 in the middle.
        z: (H, 1) depth below the probe.
        level: (H, W) echo level.
        mirror: (H, W) amplitude of in-phase reflections.
        attenuation: (H, W) loss in dB/mm that time-gain compensation does not correct; negative for enhancement.
    """

    def __init__(self, height: int, width: int, spacing_mm: float) -> None:
        self.shape = (height, width)
        self.spacing = spacing_mm
        self.x = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) * np.float32(spacing_mm))[None]
        self.z = ((np.arange(height, dtype=np.float32) + 0.5) * np.float32(spacing_mm))[:, None]
        self.level = np.zeros(self.shape, np.float32)
        self.mirror = np.zeros(self.shape, np.float32)
        self.attenuation = np.zeros(self.shape, np.float32)

    @property
    def extent(self) -> tuple[float, float]:
        """Return (height, width) in mm."""
        return self.shape[0] * self.spacing, self.shape[1] * self.spacing

    def fill(
        self, distance: np.ndarray, level: np.ndarray | float, *, attenuation: float = 0.0, edge_mm: float = 0.25
    ) -> None:
        """Set the inside (distance < 0) to `level`, with an edge of ±`edge_mm`; remove reflections inside."""
        part = _bounds(np.broadcast_to(distance < edge_mm, self.shape))
        inside = np.clip(0.5 - self._crop(distance, part) / (2 * edge_mm), 0, 1)
        self.level[part] += inside * (self._crop(level, part) - self.level[part])
        self.mirror[part] *= 1 - inside
        self.attenuation[part] += inside * (attenuation - self.attenuation[part])

    def add_interface(self, distance: np.ndarray, strength: np.ndarray | float, *, thickness_mm: float = 0.12) -> None:
        """Add a reflecting surface where `distance` is 0, brightest where the beam is perpendicular to it."""
        near = np.abs(distance) < _VANISHED * thickness_mm
        if not near.any():
            return
        part = _bounds(near)
        distance, strength = distance[part], self._crop(strength, part)
        steep_z, steep_x = (slope**2 for slope in np.gradient(distance))
        # Where two organs merge, the distance is near 0 over an area that is not a surface: fade it there.
        facing = steep_z / np.maximum(steep_z + steep_x, np.float32(self.spacing**2))
        self.mirror[part] += strength * facing * np.exp((distance / np.float32(thickness_mm)) ** 2 / -2)

    def received(self) -> np.ndarray:
        """Compute the gain (H, W) in dB, mostly negative, from the attenuation above each point."""
        loss = np.cumsum(self.attenuation, axis=0) * np.float32(self.spacing)
        return -gaussian_filter1d(loss, 0.2 / self.spacing, axis=1, mode="nearest")

    def _crop(self, value: np.ndarray | float, part: tuple[slice, slice]) -> np.ndarray | float:
        """Return the part of a map, or of values that are the same along an axis; a number as it is."""
        return np.broadcast_to(value, self.shape)[part] if isinstance(value, np.ndarray) else value


_VANISHED = 14.5  # from so many standard deviations on, a Gaussian is 0 in float32


def _bounds(near: np.ndarray) -> tuple[slice, slice]:
    """Return the slices of rows and columns that contain all true values (H, W), and one more on each side."""
    if not near.any():
        return slice(0), slice(0)
    ends = []
    for axis in (1, 0):
        found = np.flatnonzero(near.any(axis))
        ends.append(slice(max(int(found[0]) - 1, 0), int(found[-1]) + 2))
    return ends[0], ends[1]


_IN_PHASE = 0.25  # fraction of an interface's amplitude that adds in phase over the point spread function


@dataclass(frozen=True)
class Scanner:
    """Describe how a probe and its settings convert echoes to gray levels.

    Attributes:
        axial_mm, lateral_mm: standard deviation of the point spread along and across the beam, at the focus.
        focus: depth of the focus as a fraction of the image height; the beam widens above and below it.
        looks: number of independent images averaged (spatial compounding); more looks give less speckle.
        dynamic_range_db: range of echo levels between black and white.
        gain_db: gray level of thyroid tissue (0 dB) above black.
        noise_db: level of the electronic noise at the skin; time-gain compensation raises it with depth.
    """

    axial_mm: float
    lateral_mm: float
    focus: float
    looks: int
    dynamic_range_db: float
    gain_db: float
    noise_db: float


def b_mode(
    rng: np.random.Generator, level_db: np.ndarray, mirror: np.ndarray, spacing_mm: float, scanner: Scanner
) -> np.ndarray:
    """Simulate a B-mode image (H, W) uint8 of a tissue.

    Scatterers of random phase, weighted by the tissue's level, are convolved with the point spread function. The
    magnitude of the sum is Rayleigh distributed speckle (Wagner et al. 1983, IEEE Trans. Sonics Ultrason. 30(3)), which
    is log compressed.

    Args:
        rng: source of randomness.
        level_db: (H, W) mean echo level, 0 dB for thyroid tissue, after attenuation along the beam.
        mirror: (H, W) amplitude of interfaces, which reflect partly in phase and appear as bright lines.
        spacing_mm: pixel size.
        scanner: resolution and settings.
    """
    height, width = level_db.shape
    amplitude = 10 ** (level_db / 20).astype(np.float32) + mirror
    axial, lateral = max(scanner.axial_mm / spacing_mm, 0.6), max(scanner.lateral_mm / spacing_mm, 0.7)
    depth = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    defocus = np.clip(np.abs(depth - scanner.focus) * 1.5, 0, 1)
    intensity = np.zeros((height, width), np.float32)
    for _ in range(scanner.looks):
        for part in range(2):
            field = rng.standard_normal((height, width), np.float32) * amplitude
            if part == 0:
                field += _IN_PHASE * mirror
            field = _blur(field, axial, 0)
            intensity += ((1 - defocus) * _blur(field, lateral, 1) + defocus * _blur(field, 1.9 * lateral, 1)) ** 2
    intensity /= 2 * scanner.looks
    noise_level = 10 ** ((scanner.noise_db + 12 * depth) / 10)
    noise = rng.standard_normal((2, height, width), np.float32)
    intensity += noise_level * _blur(_blur((noise**2).mean(0), 0.6, 0, unit=False), 0.8, 1, unit=False)
    decibel = 10 * np.log10(np.maximum(intensity, 1e-9))
    # Scanners smooth the compressed image slightly, which fills the black gaps between speckles.
    decibel = _blur(_blur(decibel, 0.5, 0, unit=False), 0.7, 1, unit=False)
    gray = 255 * (decibel + scanner.gain_db) / scanner.dynamic_range_db
    return np.clip(np.rint(gray), 0, 255).astype(np.uint8)


def _blur(field: np.ndarray, sigma: float, axis: int, unit: bool = True) -> np.ndarray:
    """Apply a Gaussian blur along an axis; `unit` preserves the variance of white noise instead of the mean."""
    blurred = gaussian_filter1d(field, sigma, axis=axis, mode="nearest", truncate=3)
    return blurred * math.sqrt(2 * sigma * math.sqrt(math.pi)) if unit else blurred
