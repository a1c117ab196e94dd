"""Compare a step on two JAX devices with a step on one device on the same batch."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient

from mrcnn.errors import InputError
from mrcnn.models.training import data_parallel as module
from mrcnn.models.training.data_parallel import make_data_parallel

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax" or importlib.util.find_spec("jax") is None,
    reason="needs JAX beside the backend under test",
)
ROOT = Path(__file__).parents[3]

STEPS = """
import sys
import keras, numpy as np
import mrcnn
from mrcnn.models.training.data_parallel import make_data_parallel
from mrcnn import MaskRCNN, ModelConfig, make_batch, read_dataset

data = read_dataset(sys.argv[1])
config = ModelConfig(class_names=data.class_names, image_size=64, backbone="small", fpn_channels=16, head_width=32,
                     mask_channels=16, mask_convolutions=1, rpn_samples=32, proposals_per_level=20, proposals=30,
                     roi_samples=16, max_detections=10)
kept = {}
with make_data_parallel(int(sys.argv[2]), 4):
    keras.utils.set_random_seed(1)
    model = MaskRCNN(config, seed=1)
    # Momentum, decay and clipping to the norm of all gradients, as a task trains.
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4, global_clipnorm=1.0))
    for step in range(3):
        # Images with none, one and several instances: the counts of the two halves differ.
        logs = model.train_on_batch(make_batch([data[4 * step + k] for k in range(4)], config), return_dict=True)
        kept |= {f"loss/{step}/{name}": value for name, value in logs.items()}
        if step == 0:
            kept |= {f"first/{k}": np.asarray(value) for k, value in enumerate(model.get_weights())}
    kept |= {f"weight/{k}": np.asarray(value) for k, value in enumerate(model.get_weights())}
    kept["on"] = len(model.trainable_variables[0].value.sharding.device_set)
    kept["found"] = model.detect([data[0].image], batch_size=1)[0].scores
    model.save(sys.argv[3] + ".keras")
again = mrcnn.models.load(sys.argv[3] + ".keras")
np.testing.assert_array_equal(again.get_weights()[0], kept["weight/0"])
np.savez(sys.argv[3], **kept)
"""


@pytest.fixture(scope="module")
def steps(phantom_folder, tmp_path_factory):
    """Run three steps on one and on two virtual devices and return their results."""

    def run(devices):
        file = tmp_path_factory.mktemp("steps") / f"{devices}.npz"
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
                       "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}  # fmt: skip
        subprocess.run([sys.executable, "-c", STEPS, str(phantom_folder), str(devices), str(file)], env=environment,
                       check=True)  # fmt: skip
        return dict(np.load(file))

    return run(1), run(2)


@pytest.mark.slow
def test_step_on_two_devices_equals_step_on_one(steps):
    one, two = steps
    assert one.pop("on") == 1 and two.pop("on") == 2
    assert one["loss/0/head_mask"] > 0 and one["loss/0/rpn_box"] > 0
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.slow  # JAX compiles training and inference twice on a CPU
def test_training_on_two_devices_equals_training_on_one(phantom_folder, tmp_path):
    options = {
        "task": "thyroid", "backbone": "small", "weights": "none", "dataset": phantom_folder, "image_size": 64,
        "fpn_channels": 16, "head_width": 16, "mask_channels": 16,
        "mask_convolutions": 1, "rpn_samples": 16, "proposals_per_level": 20, "proposals": 20, "roi_samples": 8,
        "max_detections": 4, "batch_size": 2, "epochs": 2, "resamples": 0, "overlays": 0, "train.workers": 0,
    }  # fmt: skip
    histories = []
    for devices in (1, 2):
        store = f"sqlite:///{tmp_path}/{devices}.db"
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
                       "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
                       "MLFLOW_TRACKING_URI": store}  # fmt: skip
        words = [word for name, value in {**options, "devices": devices}.items() for word in (f"--{name}", str(value))]
        subprocess.run(
            [sys.executable, "-m", "experiments.commands.train", *words], env=environment, check=True, cwd=tmp_path
        )
        client = MlflowClient(store)
        (run,) = client.search_runs([client.get_experiment_by_name("thyroid").experiment_id])
        histories.append([point.value for point in client.get_metric_history(run.info.run_id, "train/loss")])
    assert len(histories[0]) == 2
    np.testing.assert_allclose(*histories, rtol=1e-3)


def test_missing_devices_and_indivisible_batches_are_rejected(monkeypatch):
    with make_data_parallel("all", 3):  # one device
        assert keras.distribution.distribution() is None
    with pytest.raises(InputError, match=r"devices=2: expected 1 to 1, the"), make_data_parallel(2, 4):
        pass
    monkeypatch.setattr(module, "_tensorflow_devices", lambda: ["GPU:0", "GPU:1"])
    with pytest.raises(InputError, match=r"batch_size=5: expected a multiple of 2, the"), make_data_parallel("all", 5):
        pass
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0", "gpu:1"])
    with pytest.raises(InputError, match=r"batch_size=3: expected a multiple of 2, the"), make_data_parallel(2, 3):
        pass
