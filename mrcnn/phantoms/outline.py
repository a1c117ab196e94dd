"""Closed outlines of organs and lesions: an ellipse whose radius is modulated by a few Fourier terms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outline:
    """A star-shaped outline in millimetres; x runs to the right, z down.

    Attributes:
        x, z: centre.
        half_width, half_height: half axes of the ellipse before it is turned.
        tilt: radians, clockwise on the screen.
        waves: (order, amplitude, phase) of each term: the radius is multiplied by 1 + Σ amplitude·cos(order·θ + phase).
    """

    x: float
    z: float
    half_width: float
    half_height: float
    tilt: float = 0.0
    waves: tuple[tuple[int, float, float], ...] = ()

    @property
    def reach(self) -> float:
        """A radius around the centre that the outline never leaves."""
        return max(self.half_width, self.half_height) * (1 + sum(amplitude for _, amplitude, _ in self.waves))

    def distance(self, x: np.ndarray, z: np.ndarray, far: float = 2.0) -> np.ndarray:
        """(H, W) signed distance to the outline along the ray from the centre, in mm, negative inside, at most `far`.

        Args:
            x: (1, W) and z: (H, 1), rising positions of the pixels; only those within `far` of the outline cost time.
        """
        rows = slice(*np.searchsorted(z[:, 0], (self.z - self.reach - far, self.z + self.reach + far)))
        columns = slice(*np.searchsorted(x[0], (self.x - self.reach - far, self.x + self.reach + far)))
        distance = np.full((z.shape[0], x.shape[1]), far, np.float32)
        distance[rows, columns] = np.minimum(self._distance(x[:, columns], z[rows]), far)
        return distance

    def _distance(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        cosine, sine = np.float32(math.cos(self.tilt)), np.float32(math.sin(self.tilt))
        dx, dz = x - np.float32(self.x), z - np.float32(self.z)
        u = (dx * cosine + dz * sine) / np.float32(self.half_width)
        v = (dz * cosine - dx * sine) / np.float32(self.half_height)
        tiny = np.float32(1e-6)  # gives the centre, where no ray is defined, a finite distance
        rho = np.hypot(u, v) + tiny
        radius = np.ones_like(rho)
        if self.waves:
            angle = np.arctan2(v, u)
            for order, amplitude, phase in self.waves:
                radius += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
        return (rho - radius) * (np.hypot(dx, dz) + tiny * np.float32(self.half_width)) / rho


def waves(rng: np.random.Generator, first: int, last: int, strength: float) -> tuple[tuple[int, float, float], ...]:
    """Random terms of the orders `first` … `last`, falling with the order, whose amplitudes sum to `strength`."""
    orders = np.arange(first, last + 1)
    amplitudes = rng.uniform(0.3, 1, len(orders)) / np.sqrt(orders)
    amplitudes *= strength / amplitudes.sum()
    phases = rng.uniform(0, 2 * math.pi, len(orders))
    return tuple((int(o), float(a), float(p)) for o, a, p in zip(orders, amplitudes, phases, strict=True))
