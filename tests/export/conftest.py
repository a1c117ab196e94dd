"""Models of seeded random weights whose scores and masks are clear-cut, and the same in their exported forms."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from mrcnn.config import ModelConfig
from mrcnn.models import MaskRCNN

ort = pytest.importorskip("onnxruntime")

SMALL = {
    "class_names": ("iso", "hypo"),
    "image_size": 128,
    "backbone": "small",
    "fpn_channels": 32,
    "head_width": 64,
    "mask_channels": 16,
    "mask_convolutions": 2,
    "anchor_sizes": ((16,), (32,), (64,), (96,), (128,)),
    "proposals_per_level": 60,
    "proposals": 100,
    "max_detections": 20,
    "score_threshold": 0.75,
}
CLEARER = {"rpn_class": 30.0, "rpn_box": 10.0, "head_class": 20.0, "head_box": 100.0, "mask_logits": 20.0}
"""Factors on the last layers' kernels: fresh ones say nearly the same of everything, and ties have no order."""


@pytest.fixture(scope="session")
def make_model():
    """Makes a small model with the given changes of its configuration."""

    def make(dtype=None, clearer=CLEARER, **changes):
        keras.utils.set_random_seed(1)
        model = MaskRCNN(ModelConfig(**{**SMALL, **changes}), seed=1, dtype=dtype)
        for part in (model.proposal_head, model.box_head, model.mask_head):
            for layer in part.layers:
                if layer.name in clearer:
                    layer.kernel.assign(layer.kernel * clearer[layer.name])
                if layer.name == "mask_logits":
                    # Where nothing reaches it, the probability must not be the threshold itself.
                    layer.bias.assign(layer.bias - 0.3)
        return model

    return make


@pytest.fixture(scope="session")
def small_model(make_model):
    return make_model()


@pytest.fixture(scope="session")
def photograph():
    """Makes a smooth image (height, width, channels) of a seed: whole numbers up to `brightest`."""

    def make(height, width, channels=3, dtype=np.uint8, brightest=255, seed=0):
        noise = np.random.default_rng(seed).normal(size=(height, width, channels))
        smooth = sum(ndimage.gaussian_filter(noise, (s, s, 0)) * s for s in (1, 4, 12))
        smooth = (smooth - smooth.min()) / np.ptp(smooth)
        return (smooth * brightest).astype(dtype)

    return make


def onnx_session(path):
    """A session of onnxruntime on two threads of the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="session")
def load_exported():
    """Loads an exported model of either form as a function of `images` that returns a dict of arrays."""

    def load(form, path):
        if form == "onnx":
            session = onnx_session(path)
            names = [output.name for output in session.get_outputs()]
            return lambda images: dict(zip(names, session.run(None, {"images": images}), strict=True))
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]

        def run(images, _keep=loaded):
            return {name: value.numpy() for name, value in signature(images=images).items()}

        return run

    return load


@pytest.fixture(scope="session")
def assert_same():
    """Asserts that an exported model found in one image what `detect` did."""
    return _assert_same


def _assert_same(found: dict, slot: int, expected):
    """Detections of slot `slot` of a batch; those of nearly the same score may change places."""
    count = found["count"][slot]
    assert count == len(expected)
    assert found["masks"].dtype == np.uint8 and found["class_ids"].dtype == np.int32
    for name in ("boxes", "scores", "class_ids", "masks"):
        assert not found[name][slot, count:].any(), f"{name} in an empty slot"
    scores = found["scores"][slot, :count]
    assert (np.diff(scores) <= 0).all()
    left = list(range(count))
    for box, score, class_id, mask in zip(
        expected.boxes, expected.scores, expected.class_ids, expected.masks, strict=True
    ):
        fitting = [i for i in left if found["class_ids"][slot, i] == class_id]
        best = min(fitting, key=lambda i, box=box: np.abs(found["boxes"][slot, i] - box).max())
        left.remove(best)
        np.testing.assert_allclose(found["boxes"][slot, best], box, atol=1e-2)
        np.testing.assert_allclose(found["scores"][slot, best], score, atol=1e-4)
        pasted = found["masks"][slot, best].astype(bool)
        # Some pixels of a small mask lie on the threshold. How many depends on the processor: 1 with AVX2, 3 with AMX.
        assert (pasted ^ mask).sum() <= max(3, 0.001 * (pasted | mask).sum())
