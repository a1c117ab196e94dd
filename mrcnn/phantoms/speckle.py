"""From tissue to the grey levels of an ultrasound scanner: scatterers, point spread, noise, log compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

_IN_PHASE = 0.25  # share of an interface's amplitude that adds up in phase over the point spread


@dataclass(frozen=True)
class Scanner:
    """How a probe and its settings turn echoes into grey levels.

    Attributes:
        axial_mm, lateral_mm: standard deviation of the point spread along and across the beam, at the focus.
        focus: depth of the focus as a share of the image's height; the beam widens above and below it.
        looks: independent pictures averaged (spatial compounding); more looks, less speckle.
        dynamic_range_db: span of echo levels between black and white.
        gain_db: grey level of thyroid tissue (0 dB) above black.
        noise_db: level of the electronic noise at the skin; time-gain compensation lifts it with depth.
    """

    axial_mm: float
    lateral_mm: float
    focus: float
    looks: int
    dynamic_range_db: float
    gain_db: float
    noise_db: float


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], rows: float, columns: float) -> np.ndarray:
    """(H, W) float32 noise of mean 0 and variance 1, smooth over about `rows` × `columns` pixels.

    A coarse grid of normal numbers is spread by a Gaussian kernel; its weights have a unit sum of squares.
    """
    spread_rows, spread_columns = _spread(shape[0], rows), _spread(shape[1], columns)
    grid = rng.standard_normal((spread_rows.shape[1], spread_columns.shape[1]), np.float32)
    # Sparse products stay in this thread and give the same bits whatever BLAS is installed.
    return np.ascontiguousarray((spread_columns @ (spread_rows @ grid).T).T)


@lru_cache(maxsize=64)
def _spread(length: int, step: float) -> csr_array:
    """(length, knots) weights of a coarse row of knots, `step` pixels apart, at each pixel."""
    step = max(step, 1.0)
    nearest = np.arange(-3, 4) + np.floor(np.arange(length) / step).astype(np.int64)[:, None]
    weights = np.exp(-0.5 * ((np.arange(length)[:, None] / step - nearest) / 0.7) ** 2)
    weights /= np.sqrt((weights**2).sum(1, keepdims=True))
    starts = np.arange(0, weights.size + 1, weights.shape[1])
    columns = nearest + 3
    return csr_array(
        (weights.astype(np.float32).ravel(), columns.ravel(), starts), shape=(length, int(columns.max()) + 1)
    )


def b_mode(
    rng: np.random.Generator, level_db: np.ndarray, mirror: np.ndarray, spacing_mm: float, scanner: Scanner
) -> np.ndarray:
    """(H, W) uint8 B-mode picture of a tissue.

    Scatterers of random phase, weighted by the tissue's level, are blurred by the point spread; the magnitude of the
    sum is Rayleigh distributed speckle (Wagner et al. 1983, IEEE Trans. Sonics Ultrason. 30(3)), which is then log
    compressed.

    Args:
        level_db: (H, W) mean echo level, 0 dB = thyroid tissue, with what attenuation took along the beam.
        mirror: (H, W) amplitude of interfaces, which reflect partly in phase and so stand out as lines.
        spacing_mm: side of a pixel.
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
    # Scanners smooth the compressed picture a little, which closes the black cracks between speckles.
    decibel = _blur(_blur(decibel, 0.5, 0, unit=False), 0.7, 1, unit=False)
    grey = 255 * (decibel + scanner.gain_db) / scanner.dynamic_range_db
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _blur(field: np.ndarray, sigma: float, axis: int, unit: bool = True) -> np.ndarray:
    """Gaussian blur along an axis; with `unit` white noise keeps its variance, otherwise the mean is kept."""
    blurred = gaussian_filter1d(field, sigma, axis=axis, mode="nearest", truncate=3)
    return blurred * math.sqrt(2 * sigma * math.sqrt(math.pi)) if unit else blurred
