"""A training with losses or gradients that are not finite ends, names the step, and leaves earlier checkpoints."""

import json
import math
import re
from pathlib import Path

import keras
import pytest

from experiments.commands.train import main
from mrcnn.models import load
from mrcnn.models.training.state import nonfinite_arrays
from trackers.checkpoints.unfinished_runs import Unfinished

STEPS = 3
pytestmark = pytest.mark.usefixtures("eager")


class InfiniteGradients(keras.optimizers.SGD):
    """Gradients are infinite in the step at position `at`, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__(1e-3, global_clipnorm=5.0)
        self._at = at

    def apply(self, grads, trainable_variables=None):
        ops = keras.ops
        factor = ops.where(self.iterations == self._at, math.inf, 1.0)
        return super().apply([ops.multiply(grad, ops.cast(factor, grad.dtype)) for grad in grads], trainable_variables)


@pytest.fixture
def failed(store, tiny_arguments, phantom_folder, capsys):
    """Trains until the loss is not finite; returns the run, its training files and the message."""
    newest = {"order_by": ["attributes.start_time DESC"], "max_results": 1}

    def train(**options):
        assert main(tiny_arguments(dataset=phantom_folder, **options)) == 1
        (run,) = store.search_runs([store.get_experiment_by_name("thyroid").experiment_id], **newest)
        said = capsys.readouterr().err
        assert run.info.status == "FAILED"
        assert run.data.tags["error"].startswith("Diverged: epoch ")
        assert run.data.tags["error"].removeprefix("Diverged: ")[:200] in said
        splits = json.loads(Path(store.download_artifacts(run.info.run_id, "splits.json")).read_text())
        return run, {entry["file_name"] for entry in splits["train"]}, said

    return train


@pytest.fixture
def diverged(failed, monkeypatch):
    """Trains two epochs with infinite gradients in a step."""

    def train(at):
        monkeypatch.setattr("experiments.training.stages.make_optimizer", lambda *_, **__: InfiniteGradients(at))
        run, training, said = failed(epochs=2, steps_per_epoch=STEPS)
        assert "epoch 2, step 3: " in run.data.tags["error"]
        return run, training, said

    return train


def assert_first_epoch_is_intact(store, run):
    """In the artifacts of the run and in the checkpoint to resume from."""
    folder = Path(store.download_artifacts(run.info.run_id, "checkpoints"))
    for file in folder.glob("*.keras"):
        assert nonfinite_arrays(load(file)) == []
    index = json.loads((folder / "checkpoints.json").read_text())
    assert index["last"]["epoch"] == 1
    states = Unfinished(run.info.run_id).states
    assert states.epochs()[0] == 1
    assert nonfinite_arrays(load(states.newest()[0].model)) == []


def test_a_learning_rate_that_is_too_high_is_reported_with_the_images(failed):
    _, training, said = failed(learning_rate=1e30, warmup_steps=0, clip_norm="null", optimizer="sgd")
    assert "the loss is" in said
    (names,) = re.findall(r"images of the step: ([^;\n]+)", said)
    assert set(names.split(", ")) <= training


@pytest.mark.slow
def test_infinite_gradients_in_the_last_step_reach_no_checkpoint(store, diverged):
    run, training, said = diverged(2 * STEPS - 1)
    assert "the gradients are not finite" in said
    (names,) = re.findall(r"images of the step: (.+)$", said.strip())
    assert set(names.split(", ")) <= training
    assert_first_epoch_is_intact(store, run)


@pytest.mark.slow
def test_infinite_gradients_before_the_last_step_are_reported_with_both_steps(store, diverged):
    run, training, said = diverged(2 * STEPS - 2)
    assert "the loss is nan (" in said
    (names,) = re.findall(r"images of the step: (.+)$", said.strip())
    step, before = (set(part.split(", ")) for part in names.split("; of the step before: "))
    assert step | before <= training
    assert step != before
    assert_first_epoch_is_intact(store, run)
