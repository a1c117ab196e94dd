import json

import optuna
import pytest

from experiments.config.resolve import resolve
from mrcnn.errors import InputError
from sweeps.command import command
from sweeps.options import Range, check_options
from sweeps.space import anchor_sizes, check_space, configured, read_params, suggest

RATE = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def checked(space):
    options = check_options({"space": space}, "t.yaml", {})
    return check_space(options.space, resolve([]).config, "t.yaml")


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"train.learning_rat": {"low": 1, "high": 2}},
            "train.learning_rat: no such option; did you mean train.learni",
        ),
        (
            {"train.learning_rate": {"low": -1, "high": 2}},
            "rate=-1.0: expected 'auto' or greater than 0",
        ),
        ({"train.learning_rate": {"low": 2, "high": 1}}, "learning_rate.low=2, high=1: expected low below high"),
        ({"train.learning_rate": {"low": 0, "high": 1, "log": True}}, "low=0: expected above 0 with log: true"),
        ({"train.learning_rate": {"low": 1e-3, "high": "x"}}, "high='x': expected a valid number"),
        ({"train.learning_rate": {"low": 1e-3}}, "train.learning_rate.high: missing"),
        ({"train.learning_rate": {"low": 1e-3, "high": 1, "lgo": True}}, "train.learning_rate.lgo: no such key"),
        ({"train.learning_rate": {"choices": [1e-3]}}, "choices"),
        (
            {"model.backbone": {"choices": ["small", "resnet18"]}},
            "backbone='resnet18': expected 'auto' or 'small'",
        ),
        ({"model.roi_samples": {"low": 16.5, "high": 32}}, "expected whole numbers"),
        ({"data.split": {"choices": [[0.8, 0.1, 0.1], [0.6, 0.2, 0.2]]}}, "expected an option of model, train or augm"),
        ({"seed": {"low": 0, "high": 9}}, "expected an option of model, train or augment"),
        ({"anchors.scale": {"low": 8, "high": 32}}, "expected anchors.scale and anchors.spread together"),
        ({"anchors.scale": {"low": 0, "high": 32}, "anchors.spread": {"low": 1, "high": 2}}, "expected above 0"),
        ({}, "expected at least one option to search"),
    ],
)
def test_a_space_that_cannot_be_searched_is_told_in_one_line(space, said):
    with pytest.raises(InputError) as error:
        checked(space)
    assert str(error.value).startswith("t.yaml: sweep.space")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trials", "0"], "--trials=0: expected greater than or equal to 1"),
        (["--sampler", "grid"], "--sampler='grid': expected 'tpe', 'random' or 'gp'"),
        (["--objectives", "auc"], "--objectives=auc: expected mask_ap"),
        (["--objectives", "[dice, dice]"], "expected two different ones"),
        (["--learning_rat", "1"], "did you mean --learning_rate?"),
    ],
)
def test_a_bad_option_is_told_in_one_line(words, said):
    with pytest.raises(InputError) as error:
        command.parse(words)
    assert said in str(error.value)


def test_a_section_that_is_no_mapping_is_told():
    with pytest.raises(InputError, match=r"t\.yaml: sweep=\[\]: expected a mapping"):
        check_options([], "t.yaml", {})


def test_every_task_with_a_space_can_be_searched():
    resolved, options = command.parse(["--task", "thyroid", "--trials", "3"])
    assert options.trials == 3
    assert "train.learning_rate" in options.space
    assert resolved.config.evaluate.metric == "mask_ap"


def test_the_best_epoch_is_that_of_the_objective():
    assert command.parse(["--objectives", "[dice, inference_ms]"])[0].config.evaluate.metric == "dice"


def test_short_names_are_completed_as_on_the_command_line():
    assert list(checked({"learning_rate": RATE["train.learning_rate"]})) == ["train.learning_rate"]


def test_draws_become_the_task():
    space = checked(
        {
            **RATE,
            "anchors.scale": {"low": 8, "high": 32},
            "anchors.spread": {"low": 1.5, "high": 2},
            "model.anchor_ratios": {"choices": [[0.5, 1.0], [1.0, 2.0, 3.0]]},
            "model.roi_samples": {"low": 32, "high": 64, "step": 32},
            "augment.strength": {"low": 0, "high": 2},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    base = resolve([]).config
    for _ in range(5):
        drawn = suggest(trial := study.ask(), space)
        assert read_params(trial.params) == drawn
        config = configured(base, drawn)
        assert config.train.learning_rate == drawn["train.learning_rate"]
        assert config.model.roi_samples in (32, 64)
        assert list(config.model.anchor_ratios) == drawn["model.anchor_ratios"]
        assert config.augment.rotate_degrees == pytest.approx(base.augment.rotate_degrees * drawn["augment.strength"])
        assert config.augment.flip_horizontal == base.augment.flip_horizontal
        # What the task leaves to the data is still left to it.
        assert config.model.channels == "auto" and "channels" not in config.model.model_fields_set
        json.dumps(drawn)


def test_anchor_sizes_grow_by_the_spread_and_cover_their_level():
    assert anchor_sizes(32, 2) == [[32], [64], [128], [256], [512]]
    assert anchor_sizes(8, 1) == [[8], [8], [16], [32], [64]]


def test_no_strength_goes_beyond_what_its_option_allows():
    space = {"augment.strength": Range(low=0, high=50)}
    assert check_space(space, resolve([]).config, "t.yaml") == space
