import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.config import Stage, TrainOptions
from experiments.fit import Span, spans

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
