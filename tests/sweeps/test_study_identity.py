"""A study of other data, other settings or another search is refused before any trial."""

from types import SimpleNamespace

import optuna
import pytest

from experiments.training.training_data import Data
from mrcnn.errors import InputError
from sweeps.command import command
from sweeps.study import open_study
from sweeps.study_identity import decides, require_same, require_same_choices

SPACE = {"train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
         "train.batch_size": {"choices": [2, 4]}}  # fmt: skip
SPLITS = {"train": "d1", "val": "d2", "test": "d3"}


@pytest.fixture
def study(tmp_path):
    return open_study(
        f"sqlite:///{tmp_path}/sweeps.db", "mine", command.parse(["--task", "thyroid"])[1], ["dice"], epochs=9
    )


def identity(make_task, *words, space=SPACE, objectives=("dice",), splits=SPLITS):
    file = make_task({"sampler": "random", "space": space})
    resolved, options = command.parse(["--task", str(file), *words])
    parts = {name: SimpleNamespace(digest=digest) for name, digest in splits.items()}
    return decides(resolved.config, options, objectives, Data("nodules", parts)), options


def test_the_same_goes_on_with_more_trials_and_other_workers_from_another_folder(study, make_task, tmp_path):
    require_same(study, identity(make_task)[0])
    moved = ["--trials", "30", "--workers", "3", "--train.workers", "2", "--dataset", str(tmp_path)]
    require_same(study, identity(make_task, *moved)[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"splits": {**SPLITS, "test": "d4"}}, "the images or annotations of test differ"),
        ({"splits": {"train": "e", "val": "f", "test": "g"}}, "the images or annotations of test, train, val differ"),
        ({"objectives": ("mask_ap",)}, r'sweep\.objectives=\["mask_ap"\] \(the study has \["dice"\]\)'),
        ({"words": ("--data.split_seed", "7")}, r"data\.split_seed=7 \(the study has .*\)"),
        ({"words": ("--seed", "5")}, r"seed=5 \(the study has 0\)"),
        ({"words": ("--epochs", "3")}, r"train\.epochs=3 \(the study has 2\)"),
        (
            {"space": {**SPACE, "train.batch_size": {"choices": [2, 8]}}},
            r'sweep\.space\.train\.batch_size=\{"choices": \[2, 8\]\} \(the study has .*\[2, 4\]',
        ),
        ({"space": {"train.batch_size": SPACE["train.batch_size"]}}, r"train\.learning_rate=null \(the study has \{"),
    ],
)
def test_each_difference_is_named(study, make_task, change, named):
    require_same(study, identity(make_task)[0])
    words = change.pop("words", ())
    other = identity(make_task, *words, **change)[0]
    with pytest.raises(InputError, match=named) as error:
        require_same(study, other)
    assert str(error.value).startswith("--study mine: ") and "\n" not in str(error.value)


def test_other_choices_are_refused_also_in_a_study_without_a_note(study, make_task):
    options = identity(make_task)[1]
    drawn = {"train.batch_size": optuna.distributions.CategoricalDistribution(["2", "4"])}
    study.add_trial(optuna.create_trial(params={"train.batch_size": "2"}, distributions=drawn, value=0.5))
    require_same_choices(study, options)
    other = identity(make_task, space={**SPACE, "train.batch_size": {"choices": [2, 8]}})[1]
    with pytest.raises(InputError, match=r"space\.train\.batch_size: trial 0 has drawn from .*4.*another --study"):
        require_same_choices(study, other)
