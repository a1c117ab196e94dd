"""Compare a step of two TensorFlow replicas with a step of one device on the same batch.

The virtual CPU devices need a separate process, because they must be created before TensorFlow is used.
"""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from mlflow import MlflowClient

from mrcnn.models.training.data_parallel import all_reduce, num_replicas, per_replica, random_uniform, scale_to_global

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX divides by its compiler")
ROOT = Path(__file__).parents[3]

TWO_DEVICES = """
import sys
import mrcnn
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""

STEPS = (
    TWO_DEVICES
    + """
import keras, numpy as np
from mrcnn import MaskRCNN, ModelConfig, make_batch, read_dataset
from mrcnn.config import ClassifierConfig, ResUNetConfig
from mrcnn.data.transforms.dense_encoding import make_dense_batch, make_label_batch
from mrcnn.models.training.data_parallel import make_data_parallel
from mrcnn.models import Classifier, ResUNet
from mrcnn.models.training.optimizers import make_optimizer
from mrcnn.models.training.optimizers import WarmUp
from mrcnn.models.training.state import random_states, restore_random_states

data = read_dataset(sys.argv[1])
config = ModelConfig(class_names=data.class_names, image_size=64, backbone="small", fpn_channels=16, head_width=32,
                     mask_channels=16, mask_convolutions=1, rpn_samples=32, proposals_per_level=20, proposals=30,
                     roi_samples=16, max_detections=10, norm="batch", class_weights=(1.0, 2.0, 0.5))


def compiled(model):
    # Clipping far below the gradients' norm, decay, momentum and a rising rate, as a task trains.
    schedule = WarmUp(0.01, 10, 5)
    model.compile(make_optimizer("sgd", schedule, clip_norm=0.1, weight_decay=1e-2))
    return model


def train(kept):
    keras.utils.set_random_seed(1)
    # Images with none, one and several instances: the counts of the two halves differ.
    batches = [make_batch([data[4 * step + k] for k in range(4)], config) for step in range(3)]
    model = compiled(MaskRCNN(config, seed=1))
    kept["on"] = len(getattr(model.trainable_variables[0].value, "values", [0]))
    logs = model.train_on_batch(batches[0], return_dict=True)
    kept |= {f"loss/0/{name}": value for name, value in logs.items()}
    kept |= {f"first/{k}": np.asarray(value) for k, value in enumerate(model.get_weights())}

    model.save(file := sys.argv[2] + ".resumed.keras")
    again = compiled(MaskRCNN(config, seed=2))
    again.optimizer.build(again.trainable_variables)
    again.load_weights(file)
    restore_random_states(again, random_states(model))
    for one, other in zip(again.variables + again.optimizer.variables, model.variables + model.optimizer.variables):
        np.testing.assert_equal(one.numpy(), other.numpy())
    logs = again.fit(((batch,) for batch in batches[1:]), steps_per_epoch=2, shuffle=False, verbose=0).history
    kept |= {f"loss/fit/{name}": value for name, value in logs.items()}
    kept |= {f"weight/{k}": np.asarray(value) for k, value in enumerate(again.get_weights())}
    kept |= {f"seed/{k}": v.numpy() for k, v in enumerate(again.variables) if "seed" in v.path}
    kept |= {f"test/{name}": value for name, value in again.test_on_batch(batches[0], return_dict=True).items()}
    (found,) = again.detect([data[0].image], batch_size=1)
    kept |= {"found/scores": found.scores, "found/boxes": found.boxes}
    again.save(sys.argv[2] + ".keras")
    if kept["on"] == 2:
        try:
            again.train_on_batch(make_batch([data[k] for k in range(3)], config))
        except (tf.errors.InvalidArgumentError, ValueError):
            kept["refused"] = True

    for precision in ("float32", "mixed_bfloat16"):
        plain = MaskRCNN(config, seed=1, dtype=precision)
        plain.compile(keras.optimizers.SGD(1.0))
        before = [keras.ops.convert_to_numpy(each) for each in plain.trainable_weights]
        kept |= {f"{precision}/loss": plain.train_on_batch(batches[0])}
        after = [keras.ops.convert_to_numpy(each) for each in plain.trainable_weights]
        kept[f"{precision}/gradients"] = np.concatenate([(a - b).ravel() for a, b in zip(before, after)])

    dice = ResUNetConfig(class_names=data.class_names, image_size=64, widths=(16, 16))
    for name, net, make in (
        ("dice", ResUNet(dice), make_dense_batch),
        ("tversky", ResUNet(dice.model_copy(update={"loss": "focal_tversky"})), make_dense_batch),
        ("label", Classifier(ClassifierConfig(class_names=("no", "yes"), image_size=64, norm="batch")),
         make_label_batch),
    ):
        logs = compiled(net).train_on_batch(make([data[k] for k in range(4)], net.config), return_dict=True)
        kept |= {f"{name}/{key}": value for key, value in logs.items()}
        kept |= {f"{name}/weight/{k}": value for k, value in enumerate(net.get_weights())}


for devices in (1, 2):
    kept = {}
    with make_data_parallel(devices, 4):
        train(kept)
    saved = mrcnn.models.load(sys.argv[2] + ".keras")
    np.testing.assert_array_equal(saved.get_weights()[0], kept["weight/0"])
    np.savez(f"{sys.argv[2]}.{devices}.npz", **kept)
"""
)

TRAIN = TWO_DEVICES + "from experiments.commands.train import main\nsys.exit(main())"


@pytest.fixture(scope="module")
def steps(phantom_folder, tmp_path_factory):
    """Run three steps on one and on two virtual devices and return their results."""
    file = tmp_path_factory.mktemp("steps") / "left"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", STEPS, str(phantom_folder), str(file)], env=environment, check=True)
    return tuple(dict(np.load(f"{file}.{devices}.npz")) for devices in (1, 2))


@pytest.mark.slow
def test_step_of_two_replicas_equals_step_of_one_device(steps):
    one, two = steps
    assert one["on"] == 1 and two["on"] == 2
    assert one["loss/0/head_mask"] > 0 and one["loss/0/rpn_box"] > 0
    assert "refused" in two  # three images on two devices
    for name in one.keys() - {"on", "refused", "mixed_bfloat16/loss", "mixed_bfloat16/gradients"}:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.slow
def test_bfloat16_on_two_replicas_equals_one_device_up_to_rounding(steps):
    """The gradients of each replica's rows are rounded to eight bits before they are summed: 8 % of their norm here.

    Over a whole training such differences grow, so the losses of epochs say nothing.
    """
    one, two = steps
    np.testing.assert_allclose(two["mixed_bfloat16/loss"], one["mixed_bfloat16/loss"], rtol=2**-8)
    gradients = one["mixed_bfloat16/gradients"]
    assert np.linalg.norm(two["mixed_bfloat16/gradients"] - gradients) < 0.2 * np.linalg.norm(gradients)


def test_single_replica_changes_nothing():
    value = np.float32(3)
    assert num_replicas() == 1
    assert all_reduce(value) is value and per_replica(value) is value and scale_to_global(value) is value
    ours, theirs = keras.random.SeedGenerator(5), keras.random.SeedGenerator(5)
    np.testing.assert_array_equal(random_uniform((4, 3), ours), keras.random.uniform((4, 3), seed=theirs))


@pytest.mark.slow  # two whole trainings, each with its own start of TensorFlow
def test_training_on_two_devices_equals_training_on_one(phantom_folder, tmp_path):
    options = {
        "task": "thyroid", "dataset": phantom_folder, "image_size": 64, "backbone": "small", "fpn_channels": 16,
        "head_width": 16,
        "mask_channels": 16, "mask_convolutions": 1, "rpn_samples": 16, "proposals_per_level": 20, "proposals": 20,
        "roi_samples": 8, "max_detections": 4, "batch_size": 2, "epochs": 2, "resamples": 0, "overlays": 0,
        "train.workers": 0, "seeds": 2, "precision": "float32",
    }  # fmt: skip
    histories = []
    for devices in (1, 2):
        store = f"sqlite:///{tmp_path}/{devices}.db"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": store}
        words = [word for name, value in {**options, "devices": devices}.items() for word in (f"--{name}", str(value))]
        subprocess.run([sys.executable, "-c", TRAIN, *words], env=environment, check=True, cwd=tmp_path)
        client = MlflowClient(store)
        runs = client.search_runs([client.get_experiment_by_name("thyroid").experiment_id])
        points = {
            (run.info.run_name, name): client.get_metric_history(run.info.run_id, name)
            for run in runs
            for name in ("train/loss", "val/loss")
        }
        histories.append({name: [point.value for point in found] for name, found in points.items() if found})
    one, two = histories
    # The second seed is trained after models were forgotten.
    assert len(one) == 4 and one.keys() == two.keys()
    for name, losses in one.items():
        assert len(losses) == 2
        np.testing.assert_allclose(two[name], losses, rtol=1e-3)
