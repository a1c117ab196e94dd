"""Two images of 60×40 pixels, and what is drawn on them."""

import numpy as np
import pytest
from PIL import Image

SIZE = 40, 60
"""Height and width."""
SQUARE = [2, 3, 7, 3, 7, 6, 2, 6]
"""Corners of the pixels of columns 2 … 6 and rows 3 … 5."""


def drawn(rows, columns):
    mask = np.zeros(SIZE, bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


@pytest.fixture
def save_images():
    """Writes random images of that size."""

    def save(folder, *names, size=SIZE):
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name in names:
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / name)

    return save
