"""Drawn masks whose sizes are known, and detections of them."""

from pathlib import Path

import numpy as np
import pytest

from mrcnn.detections import Detections


@pytest.fixture
def shared_data():
    folder = Path(__file__).parents[4] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not here")
    return folder


@pytest.fixture(scope="session")
def star():
    """Draws (side, side) bool: pixels whose center lies in an ellipse of half axes `radius` and `squeeze` · `radius`,
    the first `tilt` radians from the rows, its radius multiplied by 1 + waves(angle)."""

    def draw(side, radius, *, tilt=0.0, squeeze=1.0, waves=lambda angle: 0 * angle, offset=(0.0, 0.0)):
        y, x = np.mgrid[:side, :side] + 0.5 - side / 2
        dx, dy = x - offset[0], y - offset[1]
        u = dx * np.cos(tilt) + dy * np.sin(tilt)
        v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / squeeze
        return np.hypot(u, v) < radius * (1 + waves(np.arctan2(v, u)))

    return draw


@pytest.fixture(scope="session")
def rectangle():
    def draw(height, width, x1, y1, x2, y2):
        mask = np.zeros((height, width), bool)
        mask[y1:y2, x1:x2] = True
        return mask

    return draw


@pytest.fixture(scope="session")
def detections_of():
    """Detections of given masks, all with a score of 0.9, of class 1 unless said otherwise."""

    def make(*masks, class_ids=None):
        masks = np.stack(masks)
        class_ids = np.ones(len(masks), np.int32) if class_ids is None else np.array(class_ids, np.int32)
        return Detections(np.zeros((len(masks), 4), np.float32), np.full(len(masks), 0.9, np.float32), class_ids, masks)

    return make
