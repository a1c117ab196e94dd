"""Test several networks in one process, on each backend."""

import numpy as np

from mrcnn.backend import clear_session
from mrcnn.inference.ensemble import Ensemble, flip_detections, flip_image
from mrcnn.inference.fusion import fuse_detections
from mrcnn.models import MaskRCNN, load


def test_saved_network_detects_the_same_after_clear_session(tiny, tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 56), np.uint8)
    views = ((), ("horizontal",))
    first = MaskRCNN(tiny(score_threshold=0.01, max_detections=5), seed=1)
    first.compile(run_eagerly=True)  # a graph takes seconds; the loaded network has one
    before = [flip_detections(first.detect([flip_image(image, view)])[0], view) for view in views]
    first.save(tmp_path / "first.keras")
    del first
    clear_session()
    again, other = load(tmp_path / "first.keras"), MaskRCNN(tiny(score_threshold=0.01, max_detections=5), seed=2)
    other.compile(run_eagerly=True)
    (found,) = Ensemble([again], ("horizontal",)).detect([image])
    expected = fuse_detections(before, max_detections=5)
    assert len(found) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
    (both,) = Ensemble([again, other]).detect([image])
    assert 0 < len(both) <= 5
