import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.config.resolve import options

ROOT = Path(__file__).parents[3]


def test_help_explains_every_option_with_its_value_and_limits(capsys):
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())  # as before it was wrapped
    for key, field in options():
        if key == "task":
            continue
        assert f"--{key} " in text
        assert field.description in words
    assert "--evaluate.metric mask_ap" in text
    assert "[integer ≥ 1]" in text
    assert "[sgd | adamw]" in text
    assert "[auto | number ≥ 0 and ≤ 1]" in words
    assert max(map(len, text.splitlines())) <= 100


def test_help_shows_the_values_of_the_profile(capsys):
    assert main(["train", "--profile", "first_system", "--help"]) == 0
    assert "--model.backbone resnet101" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_shown(words, capsys):
    assert main(words) == 0
    assert "train" in capsys.readouterr().out


def test_an_unknown_command_is_named(capsys):
    assert main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


def test_a_bad_value_is_told_in_one_line_before_the_libraries_load():
    code = (
        "import sys; from experiments.train import main; status = main(['--epochs', '0'])\n"
        "assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "mrcnn: --train.epochs=0: expected greater than or equal to 1\n"
