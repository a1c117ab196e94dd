"""What `mrcnn baselines` makes of its words, before anything heavy is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main as cli
from experiments.commands.baselines import MODELS, command, main
from experiments.config.resolve import resolve

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], MODELS),
        (["--models", "resunet"], ("resunet",)),
        (["--models", "resunet", "classifier", "cascade"], MODELS),
        (["--models=classifier,resunet"], ("classifier", "resunet")),
        (["--models", "resunet,classifier", "--epochs", "3"], ("resunet", "classifier")),
    ],
)
def test_models_are_words_or_a_list_with_commas(words, expected):
    assert command.parse(["--task", "lgg", *words]).models == expected


def test_other_options_are_the_tasks():
    wanted = command.parse(
        ["--task", "lgg", "--models", "resunet", "--epochs", "3", "--mask_rcnn=last", "--unet_widths", "[16, 32]"]
    )
    assert wanted.mask_rcnn == "last"
    assert wanted.resolved.config.train.epochs == 3
    assert wanted.resolved.config.baseline.unet_widths == (16, 32)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models", "unet"], "--models unet: expected some of resunet, classifier, cascade"),
        (["--models"], "--models: expected a value after it"),
        (["--models", "cascade"], "the cascade needs the classifier"),
        (["--models", "classifier", "cascade"], "the cascade needs the classifier, and resunet or a --mask-rcnn"),
        (["--mask-rcnn", "model.h5"], "--mask-rcnn model.h5: expected a .keras file that is there"),
        (["--mask-rcnn"], "--mask-rcnn: expected a value after it"),
        (["--models", "resunet", "--models", "classifier"], "--models: expected once"),
        (["--unet_widths", "[16, 20]"], "--baseline.unet_widths=[16, 20]: expected 2 to 6 multiples of 16"),
        (["--classifier_weights", "imagenet"], "expected none with classifier_backbone=small"),
        (["--epoch", "3"], "did you mean"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(words, told, capsys):
    assert main(["--task", "lgg", *words]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_help_and_the_commands_name(capsys):
    assert cli(["baselines", "--help"]) == 0
    assert "--mask-rcnn" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "-m", "experiments.baselines", "--models", "x"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("mrcnn: --models x")


def test_every_task_has_a_baseline_section_that_fits():
    for task in ("thyroid", "brain_tumor", "lung", "brats", "lgg"):
        assert resolve(["--task", task]).config.baseline.classifier_threshold == "youden"
