"""Shapes of organs and lesions: closed outlines (an ellipse with Fourier terms) and smooth noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Outline:
    """Represent a star-shaped outline in millimeters; x points to the right, z down.

    Attributes:
        x, z: center.
        half_width, half_height: half axes of the ellipse before rotation.
        tilt: rotation in radians, clockwise in the image.
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
        """Return the radius of a circle around the center that contains the outline."""
        return max(self.half_width, self.half_height) * (1 + sum(amplitude for _, amplitude, _ in self.waves))

    def distance(self, x: np.ndarray, z: np.ndarray, far: float = 2.0) -> np.ndarray:
        """Compute the signed distance (H, W) to the outline along the ray from the center, in mm.

        Args:
            x: (1, W) increasing positions of the pixel columns in mm.
            z: (H, 1) increasing positions of the pixel rows in mm.
            far: upper bound of the result. Only pixels within `far` of the outline are computed.

        Returns:
            float32, negative inside.
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
        tiny = np.float32(1e-6)  # finite distance at the center, where no ray is defined
        rho = np.hypot(u, v) + tiny
        radius = np.ones_like(rho)
        if self.waves:
            angle = np.arctan2(v, u)
            for order, amplitude, phase in self.waves:
                radius += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
        return (rho - radius) * (np.hypot(dx, dz) + tiny * np.float32(self.half_width)) / rho


def waves(rng: np.random.Generator, first: int, last: int, strength: float) -> tuple[tuple[int, float, float], ...]:
    """Draw Fourier terms of orders `first` to `last`; amplitudes decrease with the order and sum to `strength`."""
    orders = np.arange(first, last + 1)
    amplitudes = rng.uniform(0.3, 1, len(orders)) / np.sqrt(orders)
    amplitudes *= strength / amplitudes.sum()
    phases = rng.uniform(0, 2 * math.pi, len(orders))
    return tuple((int(o), float(a), float(p)) for o, a, p in zip(orders, amplitudes, phases, strict=True))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], rows: float, columns: float) -> np.ndarray:
    """Draw (H, W) float32 noise of mean 0 and variance 1, smooth over about `rows` × `columns` pixels.

    A coarse grid of normal numbers is interpolated with a Gaussian kernel whose weights have a unit sum of squares.
    """
    (spread_rows, row_knots), (spread_columns, column_knots) = _spread(shape[0], rows), _spread(shape[1], columns)
    grid = rng.standard_normal((row_knots, column_knots), np.float32)
    # Sparse products run in this thread and give the same bits with every BLAS library.
    return np.ascontiguousarray((spread_columns @ (spread_rows @ grid).T).T)


@lru_cache(maxsize=64)
def _spread(length: int, step: float) -> tuple[csr_array, int]:
    """Compute the weights (length, knots) of knots `step` pixels apart at each pixel, and the number of knots."""
    step = max(step, 1.0)
    nearest = np.arange(-3, 4) + np.floor(np.arange(length) / step).astype(np.int64)[:, None]
    weights = np.exp(-0.5 * ((np.arange(length)[:, None] / step - nearest) / 0.7) ** 2)
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    starts = np.arange(0, weights.size + 1, weights.shape[1])
    columns = nearest + 3
    knots = int(columns.max()) + 1
    return csr_array((weights.astype(np.float32).ravel(), columns.ravel(), starts), shape=(length, knots)), knots
