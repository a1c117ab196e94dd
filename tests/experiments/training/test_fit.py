from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config.schema import Stage, TrainOptions
from experiments.training.callbacks import Diverged
from experiments.training.fit import Span, fit, spans
from mrcnn.models.training.batches import repeat_epochs

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
    options = TrainOptions(epochs=epochs, stages=[Stage(epochs=length) for length in lengths])
    assert [(span.start, span.end) for span in spans(options)] == expected


@given(st.integers(1, 12), st.lists(stages, min_size=1, max_size=4))
def test_every_epoch_is_in_one_stage(epochs, given_stages):
    options = TrainOptions(epochs=epochs, stages=given_stages)
    assert [epoch for span in spans(options) for epoch in range(span.start, span.end)] == list(range(epochs))


def test_a_stage_has_its_own_learning_rate_or_that_of_all():
    options = TrainOptions(
        epochs=3, weights="imagenet", learning_rate=0.1,
        stages=[Stage(layers="heads", epochs=1), Stage(layers="4+", learning_rate=0.01)],
    )  # fmt: skip
    assert list(spans(options)) == [Span("heads", 0.1, 0, 1), Span("4+", 0.01, 1, 3)]


def test_untrained_layers_are_never_frozen():
    options = TrainOptions(epochs=2, stages=[Stage(layers="heads", epochs=1), Stage(layers="4+")])
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
def trained_on(monkeypatch):
    """Runs `fit` without a network; returns the batches that it trained on, in order."""
    monkeypatch.setattr(
        "experiments.training.fit.training_batches",
        lambda *args, **options: nullcontext(repeat_epochs(*args, **options)),
    )
    monkeypatch.setattr("experiments.training.fit.set_trainable", lambda *_: None)
    monkeypatch.setattr("experiments.training.fit.restore_optimizer", lambda *_: None)

    def run(lengths, steps, done=0, diverges=None):
        taken, progress = [], SimpleNamespace(epochs_done=done, stopped_early=False)

        def keras_fit(batches, *, steps_per_epoch, initial_epoch, epochs, **_):
            for _ in range(initial_epoch, epochs):
                taken.extend(batch for (batch,) in islice(batches, steps_per_epoch))
                if diverges == progress.epochs_done:
                    raise Diverged("the loss is nan", steps - 1, or_before=True)
                progress.epochs_done += 1

        model = SimpleNamespace(fit=keras_fit, compile=lambda **_: None)
        options = TrainOptions(
            epochs=sum(lengths), stages=[Stage(layers="all", epochs=length) for length in lengths], weights="imagenet"
        )
        fit(model, Batches(), options, steps, progress, SimpleNamespace(say=lambda _: None), {})
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


@pytest.mark.parametrize("steps", [2, 7])
def test_the_images_of_a_diverged_step_are_those_that_it_had(trained_on, steps):
    last = 4 * steps - 1
    with pytest.raises(Diverged, match="images of the step: ") as raised:
        trained_on([2, 3], steps, diverges=3)
    assert f"images of the step: {divmod(last, 3)}; of the step before: {divmod(last - 1, 3)}" in str(raised.value)
