from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace
from unittest.mock import Mock

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from experiments.config.resolve import resolve
from experiments.config.schema import Stage, TrainOptions
from experiments.training.callbacks import (
    AveragedWeights,
    Diverged,
    FiniteLoss,
    TrainingState,
)
from experiments.training.checkpointing import ResumableTraining
from experiments.training.stages import Span, spans
from experiments.training.trainer import Trainer
from mrcnn.models.training.batches import repeat_epochs
from mrcnn.models.training.optimizers import make_optimizer
from trackers.checkpoints.checkpoint_store import TrainingCheckpoint

stages = st.builds(
    Stage, layers=st.sampled_from(["heads", "4+", "all"]), epochs=st.one_of(st.none(), st.integers(1, 9))
)


@pytest.mark.parametrize(
    ("epochs", "lengths", "expected"),
    [
        (6, [2, None], [(0, 2), (2, 6)]),
        (6, [2, 1], [(0, 2), (2, 6)]),  # the last goes on to the end
        (6, [None, 3], [(0, 6)]),  # nothing is left for the second
        (1, [2, 4], [(0, 1)]),  # cut short
        (3, [None], [(0, 3)]),
    ],
)
def test_stages_follow_one_another_until_the_last_epoch(epochs, lengths, expected):
    options = TrainOptions(epochs=epochs, weights="none", stages=[Stage(epochs=length) for length in lengths])
    assert [(span.start, span.end) for span in spans(options)] == expected


@given(st.integers(1, 12), st.lists(stages, min_size=1, max_size=4))
def test_every_epoch_is_in_one_stage(epochs, given_stages):
    options = TrainOptions(epochs=epochs, weights="none", stages=given_stages)
    assert [epoch for span in spans(options) for epoch in range(span.start, span.end)] == list(range(epochs))


def test_a_stage_has_its_own_learning_rate_or_that_of_all():
    options = TrainOptions(
        epochs=3, weights="imagenet", learning_rate=0.1,
        stages=[Stage(layers="heads", epochs=1), Stage(layers="4+", learning_rate=0.01)],
    )  # fmt: skip
    assert list(spans(options)) == [Span("heads", 0.1, 0, 1), Span("4+", 0.01, 1, 3)]


def test_untrained_layers_are_never_frozen():
    options = TrainOptions(epochs=2, weights="none", stages=[Stage(layers="heads", epochs=1), Stage(layers="4+")])
    assert {span.layers for span in spans(options)} == {"all"}


class Batches:
    """A loader of three batches an epoch, each of which is its epoch, whence order and augmentation come, and place."""

    def __len__(self):
        return 3

    def epoch(self, epoch, first=0, stopped=None):
        return iter([(epoch, place) for place in range(first, 3)])

    def file_names(self, first_epoch, position):
        epochs, place = divmod(position, 3)
        return [str((first_epoch + epochs, place))]


@pytest.fixture
def trained_on(monkeypatch, tmp_path):
    """Runs `Trainer.fit` without a network; returns the batches that it trained on, in order."""
    for name, replacement in {
        "Loader": lambda *_, **__: Batches(),
        "training_batches": lambda *args, **options: nullcontext(repeat_epochs(*args, **options)),
        "compile_for": lambda *_: None,
        "load": lambda *_: SimpleNamespace(get_weights=list),
    }.items():
        monkeypatch.setattr(f"experiments.training.trainer.{name}", replacement)
    monkeypatch.setattr(ResumableTraining, "restore_optimizer", lambda *_: None)
    monkeypatch.setattr(Trainer, "_log_checkpoints", lambda *_: None)

    def run(lengths, steps, done=0):
        taken = []

        def keras_fit(batches, *, steps_per_epoch, initial_epoch, epochs, callbacks, **_):
            state = callbacks[0].state
            for _ in range(initial_epoch, epochs):
                taken.extend(batch for (batch,) in islice(batches, steps_per_epoch))
                state.epochs_done += 1

        options = TrainOptions(
            epochs=sum(lengths), stages=[Stage(layers="all", epochs=length) for length in lengths],
            weights="imagenet", steps_per_epoch=steps, learning_rate=0.1, warmup_steps=0, patience=0,
        )  # fmt: skip
        config = resolve(["--task", "thyroid"]).config.model_copy(update={"train": options})
        data = SimpleNamespace(splits={"train": None, "val": None})
        training = ResumableTraining(
            tmp_path, data, {},
            TrainingCheckpoint(done, tmp_path, {"progress": {"metric": "val/dice", "epochs_done": done},
                                                "events": ["none", 0]}),
        )  # fmt: skip
        trainer = Trainer(config, data, Mock(), Console(quiet=True),
                          tmp_path, training=training)  # fmt: skip
        trainer.model = SimpleNamespace(fit=keras_fit, config=Mock(), compile=Mock(), set_weights=Mock())
        trainer.fit()
        return taken

    return run


@pytest.mark.parametrize("steps", [2, 3, 7])
def test_no_stage_repeats_the_order_and_augmentation_of_another(trained_on, steps):
    """Epochs may hold fewer steps or more than there are batches; a stage goes on where the one before it ended."""
    whole = [divmod(place, 3) for place in range(5 * steps)]
    assert trained_on([5], steps) == whole
    assert trained_on([2, 1, 2], steps) == whole
    for done in range(1, 5):
        assert trained_on([2, 1, 2], steps, done) == whole[done * steps :]


class Loss:
    """A loss on a device: reading it waits for the step."""

    def __init__(self, value, read):
        self.value, self.read = value, read

    def __float__(self):
        self.read.append(self.value)
        return self.value


def finite_loss(monkeypatch, epochs_done=0):
    monkeypatch.setattr("experiments.training.callbacks.nonfinite_arrays", lambda _: [])
    return FiniteLoss(TrainingState("val/dice", epochs_done=epochs_done), Batches(), steps_per_epoch=7)


def test_losses_are_read_a_step_late_and_all_at_the_end_of_an_epoch(monkeypatch):
    read, callback = [], finite_loss(monkeypatch)
    for step in range(3):
        callback.on_train_batch_end(step, {"loss": Loss(float(step), read)})
        assert read == [float(each) for each in range(step)]
    callback.on_epoch_end(0, {})
    assert read == [0.0, 1.0, 2.0]


def test_the_first_step_with_a_loss_that_is_not_finite_is_named_with_its_images(monkeypatch):
    """With 7 steps an epoch and batches of 3 a round, the second step of the third epoch is the batch 15, (5, 0)."""
    callback = finite_loss(monkeypatch, epochs_done=2)
    with pytest.raises(Diverged) as error:
        for step in range(3):
            value = float("nan") if step >= 1 else 1.0
            callback.on_train_batch_end(step, {"loss": Loss(value, []), "head_mask": Loss(value, []), "rpn": 1.0})
    assert step == 2
    assert str(error.value) == (
        "epoch 3, step 2: the loss is nan (head_mask); try a lower train.learning_rate or train.clip_norm; "
        "images of the step: (5, 0); of the step before: (4, 2)"
    )


@pytest.mark.parametrize("loss", [1.0, float("nan")])
def test_an_error_after_a_step_is_explained_by_its_loss_if_that_is_not_finite(monkeypatch, loss):
    callback = finite_loss(monkeypatch)
    with pytest.raises(RuntimeError) as error, callback:
        callback.on_train_batch_end(0, {"loss": loss})
        raise RuntimeError("negative box")
    assert ("step 1: the loss is nan; " in str(error.value)) == (loss != 1.0)
    assert isinstance(error.value, Diverged) == (loss != 1.0)


def test_the_best_epoch_is_strictly_better_and_has_the_metric():
    state = TrainingState("val/dice")
    for epoch, value in enumerate([float("nan"), 0.2, 0.5, 0.5, None, 0.4], 1):
        state.epochs_done, state.record = epoch, {"train/loss": 1.0}
        state.add_validation({} if value is None else {"dice": value})
    assert (state.best_epoch, state.best_value, len(state.scores)) == (3, 0.5, 6)
    assert state.index() == {
        "metric": "val/dice",
        "higher_is_better": True,
        "best": {"epoch": 3, "value": 0.5, "file": "best.keras"},
        "last": {"epoch": 6, "metrics": {"train/loss": 1.0, "val/dice": 0.4}, "file": "last.keras"},
    }
    loss = TrainingState("val/log_loss", higher_is_better=False)
    assert loss.index()["best"] is None
    for epoch, value in enumerate([2.0, 1.0, 3.0], 1):
        loss.epochs_done = epoch
        loss.add_validation({"log_loss": value})
    assert (loss.best_value, loss.best_epoch) == (1.0, 2)


@pytest.mark.parametrize("resumed", [False, True])
def test_the_average_of_the_weights_is_in_the_model_between_epochs(resumed):
    """The gradient is 1, so the weight is 0, -1, -2 … after each step; the average with momentum 1/2 is by hand."""
    weight = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), weight])
    optimizer = make_optimizer("sgd", 1.0, momentum=0.0, weight_decay=0.0, clip_norm=None, ema=0.5)
    model.compile(optimizer, loss=lambda truth, found: found)
    seen = []

    def value():
        return np.asarray(weight.kernel).item()

    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_, **__: seen.append(("end", value())),
        on_train_batch_begin=lambda *_, **__: seen.append(value()),
    )
    ones, callbacks = np.ones((3, 1)), [AveragedWeights(), look]
    if resumed:  # with the weights that a checkpoint has: the average in the model, the others in the optimizer
        model.fit(ones, ones, batch_size=1, epochs=2, callbacks=[*callbacks, StopAfterFirst()], verbose=0)
        (average,) = optimizer._model_variables_moving_average
        weight.kernel.assign([[-2.25]])
        average.assign([[-3.0]])
        model.fit(ones, ones, batch_size=1, initial_epoch=1, epochs=2, verbose=0,
                  callbacks=[AveragedWeights(), look])  # fmt: skip
    else:
        model.fit(ones, ones, batch_size=1, epochs=2, callbacks=callbacks, verbose=0)
    assert seen == [0, -1, -2, ("end", -2.25), -3, -4, -5, ("end", -5.03125)]
    assert value() == -5.03125


class StopAfterFirst(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True
