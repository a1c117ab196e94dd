"""A slice of tissue being painted: echo level, reflecting interfaces and attenuation on one pixel grid."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d


class Tissue:
    """Maps of one slice; every distance is in millimetres, every level in dB, thyroid tissue = 0 dB.

    Attributes:
        x: (1, W) position across, 0 in the middle. z: (H, 1) depth below the probe.
        level: (H, W) echo level.
        mirror: (H, W) amplitude of in-phase reflections.
        attenuation: (H, W) loss in dB a mm beyond what time-gain compensation makes up for; negative = enhancement.
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
        """(height, width) in mm."""
        return self.shape[0] * self.spacing, self.shape[1] * self.spacing

    def fill(
        self, distance: np.ndarray, level: np.ndarray | float, *, attenuation: float = 0.0, edge_mm: float = 0.25
    ) -> None:
        """Replaces what lies inside (distance < 0) by `level`, fading over ±`edge_mm`; reflections inside vanish."""
        inside = np.clip(0.5 - distance / (2 * edge_mm), 0, 1)
        self.level += inside * (level - self.level)
        self.mirror *= 1 - inside
        self.attenuation += inside * (attenuation - self.attenuation)

    def add_interface(self, distance: np.ndarray, strength: np.ndarray | float, *, thickness_mm: float = 0.12) -> None:
        """A reflecting surface where `distance` is 0, brightest where the beam meets it at a right angle."""
        steep_z, steep_x = (slope**2 for slope in np.gradient(distance))
        # Where two organs merge the distance lies flat near 0 over an area, which is no surface: there it fades.
        facing = steep_z / np.maximum(steep_z + steep_x, np.float32(self.spacing**2))
        self.mirror += strength * facing * np.exp((distance / np.float32(thickness_mm)) ** 2 / -2)

    def received(self) -> np.ndarray:
        """(H, W) gain in dB, mostly negative, by the attenuation above each point."""
        loss = np.cumsum(self.attenuation, axis=0) * np.float32(self.spacing)
        return -gaussian_filter1d(loss, 0.2 / self.spacing, axis=1, mode="nearest")
