"""A training whose numbers stop being numbers: it ends, says where, and what was kept before stays whole."""

import json
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from experiments.commands.train import main
from mrcnn.models import load
from mrcnn.models.training.state import nonfinite_arrays
from trackers.checkpoints.unfinished_runs import Unfinished

STEPS = 3


class Spoiling(keras.optimizers.SGD):
    """Gradients are infinite in the step at position `at`, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__(1e-3, global_clipnorm=5.0)
        self._at = at

    def apply(self, grads, trainable_variables=None):
        ops = keras.ops
        spoilt = ops.where(self.iterations == self._at, math.inf, 1.0)
        return super().apply([ops.multiply(grad, ops.cast(spoilt, grad.dtype)) for grad in grads], trainable_variables)


@pytest.fixture
def spoilt(store, tiny_arguments, phantom_folder, monkeypatch, capsys):
    """Trains two epochs with infinite gradients in a step; returns the run, its training files and what was said."""
    newest = {"order_by": ["attributes.start_time DESC"], "max_results": 1}

    def train(at):
        monkeypatch.setattr("experiments.training.fit.make_optimizer", lambda *_, **__: Spoiling(at))
        assert main(tiny_arguments(dataset=phantom_folder, epochs=2, steps_per_epoch=STEPS)) == 1
        (run,) = store.search_runs([store.get_experiment_by_name("thyroid").experiment_id], **newest)
        said = capsys.readouterr().err
        assert run.info.status == "FAILED"
        assert run.data.tags["error"].startswith("Diverged: epoch 2, step 3: ")
        assert run.data.tags["error"].removeprefix("Diverged: ")[:200] in said
        splits = json.loads(Path(store.download_artifacts(run.info.run_id, "splits.json")).read_text())
        return run, {entry["file_name"] for entry in splits["train"]}, said

    return train


def assert_first_epoch_is_whole(store, run):
    """In the run's artifacts and in the state to go on from."""
    folder = Path(store.download_artifacts(run.info.run_id, "checkpoints"))
    for file in folder.glob("*.keras"):
        assert nonfinite_arrays(load(file)) == []
    index = json.loads((folder / "checkpoints.json").read_text())
    assert index["last"]["epoch"] == 1
    states = Unfinished(run.info.run_id).states
    assert states.epochs()[0] == 1
    arrays = states.newest()[0].arrays
    assert all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")


def test_infinite_gradients_in_the_last_step_reach_no_checkpoint(store, spoilt):
    run, training, said = spoilt(2 * STEPS - 1)
    assert "the gradients are not finite" in said
    (names,) = re.findall(r"images of the step: (.+)$", said.strip())
    assert set(names.split(", ")) <= training
    assert_first_epoch_is_whole(store, run)


def test_infinite_gradients_before_are_told_with_both_steps(store, spoilt):
    run, training, said = spoilt(2 * STEPS - 2)
    assert "the loss is nan (" in said
    (names,) = re.findall(r"images of the step: (.+)$", said.strip())
    step, before = (set(part.split(", ")) for part in names.split("; of the step before: "))
    assert step | before <= training
    assert step != before
    assert_first_epoch_is_whole(store, run)
