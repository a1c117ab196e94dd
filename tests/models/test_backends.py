"""Compare outputs of TensorFlow and JAX with the same weights, and run the tests of the model on both."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.models import MaskRCNN

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() == "jax" or importlib.util.find_spec("jax") is None,
        reason="needs JAX beside the backend under test",
    ),
]
ROOT = Path(__file__).parents[2]

OTHER_SIDE = """
import sys
import numpy as np
from mrcnn.models import load
model = load(sys.argv[1])
np.savez(sys.argv[3], **model.predict(dict(np.load(sys.argv[2])), verbose=0))
"""


def on_jax(*arguments, **kwargs):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    # Compiling takes longer than computing here.
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    return subprocess.run([sys.executable, *map(str, arguments)], env=environment, cwd=ROOT, check=False, **kwargs)


def test_same_outputs(tiny, blob_batch, tmp_path):
    config = tiny()
    keras.utils.set_random_seed(0)
    model = MaskRCNN(config)
    model.compile(optimizer=keras.optimizers.AdamW(2e-3, global_clipnorm=5.0))
    batch = blob_batch(config, [[(4, 4, 30, 34, 1)], [(20, 16, 60, 44, 2)], [(2, 34, 30, 62, 2), (34, 2, 60, 28, 1)]])
    # A little training spreads the scores: with equal scores the order of the detections would be arbitrary.
    model.fit(((batch,) for _ in range(60)), steps_per_epoch=60, verbose=0)
    expected = model.predict(batch, verbose=0)
    assert (expected["class_ids"] > 0).sum() > 3
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", image=batch["image"])
    done = on_jax("-c", OTHER_SIDE, tmp_path / "model.keras", tmp_path / "batch.npz", tmp_path / "out.npz")
    assert done.returncode == 0
    found = np.load(tmp_path / "out.npz")
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=0, err_msg=name)


def test_the_model_tests_pass_on_jax():
    # Each model test compiles its own step, which is slow; tests of code without backend calls are not repeated.
    slow = (
        "overfits", "configurations_train", "resnet", "save_and_load", "same_seed", "slots", "any_size", "imagenet",
        "does_not_depend", "True", "reinitialize", "wide", "test_weights", "test_torchvision",
        "test_edge_cases", "test_degenerate", "test_winograd",
    )  # fmt: skip
    chosen = " and ".join(f"not {name}" for name in slow)
    arguments = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/geometry", "tests/models", "-k", chosen)
    done = on_jax(*arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
