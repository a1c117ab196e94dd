import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.cli import COMMANDS, main
from experiments.commands.arguments import with_absolute_paths
from experiments.config.config_options import options
from experiments.config.resolve import resolve
from mrcnn.errors import InputError

ROOT = Path(__file__).parents[3]


def test_help_explains_every_option_with_its_value_and_limits(capsys):
    assert main(["train", "--help", "all"]) == 0
    text = capsys.readouterr().out
    joined = "".join(text.split())  # without line breaks
    for key, field in options():
        if key == "task":
            continue
        assert f"--{key} " in text
        assert "".join(field.description.split()) in joined
    assert "--evaluate.metric mask_ap" in text
    assert "[integer ≥ 1]" in text
    assert "[sgd | adamw]" in text
    assert "[auto|number≥0and≤1]" in joined
    for section in ("task", "data", "data.masks", "model", "train", "augment", "evaluate", "baseline"):
        assert f"\n{section}:\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_help_shows_the_common_options_at_the_width_of_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "  --epochs 12 " in text and "--train.clip_norm" not in text and "mrcnn train --help all" in text
    assert max(map(len, text.splitlines())) <= 80


def test_names_of_other_programs_are_understood():
    config = resolve(["--lr", "0.01", "--batch", "2", "--imgsz", "128"]).config
    assert (config.train.learning_rate, config.train.batch_size, config.model.image_size) == (0.01, 2, 128)
    with pytest.raises(InputError, match=r"--data\.dataset nowhere"):
        with_absolute_paths(resolve(["--data", "nowhere"]))
    # A split by patient is no file.
    assert with_absolute_paths(resolve(["--splits", "patient"])).config.data.splits == "patient"


def test_help_shows_the_values_of_the_profile(capsys):
    assert main(["train", "--profile", "first_system", "--help"]) == 0
    assert "--backbone resnet101" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_shown(words, capsys):
    assert main(words) == 0
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "'trian': no such command; did you mean train?"),
        (["quit"], "'quit': no such command; expected check, plan, "),
        (["--verison"], "--verison: no such option; expected a command, --help or --version"),
        (["train", "--epocs", "3"], "--epocs: no such option; did you mean --epochs?"),
        (["train", "-P", "epochs", "3"], "-P epochs 3: -P is an option of `mlflow run`; did you mean --epochs 3?"),
        (["train", "epohcs=3"], "'epohcs=3': did you mean --epochs 3?"),
        (["train", "."], "'.': did you mean --dataset .?"),
        (["train", "extra"], "'extra': expected an option such as --epochs 3"),
        (["sweep", "--trails", "3"], "--trails: no such option; did you mean --trials?"),
        (["sync", "--dry-rnu"], "--dry_rnu: no such option; did you mean --dry-run?"),
        (["check", "a", "--dataset", "b"], "--data.dataset b: expected once; DATASET is a"),
    ],
)
def test_an_error_is_one_line_with_the_nearest_name(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mrcnn: {message}") and error.count("\n") == 1


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"medmrcnn \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_of_every_command_loads_no_heavy_library():
    code = (
        "import sys; from experiments.cli import main\n"
        f"assert [main([name, '--help']) for name in {list(COMMANDS)}] == [0] * {len(COMMANDS)}\n"
        "assert not {'tensorflow', 'keras', 'mlflow', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines() if line.startswith("Usage: ")] == list(COMMANDS)


@pytest.mark.parametrize(
    ("shell", "words", "expected"),
    [
        ("bash", "mrcnn tr", {"train"}),
        ("zsh", "mrcnn train --epo", {"--epochs"}),
        ("fish", "mrcnn sweep --sampler r", {"random"}),
        ("bash", "mrcnn train --task th", {"thyroid"}),
    ],
)
def test_the_shell_completes_commands_options_and_values(shell, words, expected):
    environment = {**os.environ, "_MRCNN_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    environment["COMP_CWORD"] = words.split()[-1] if shell == "fish" else str(len(words.split()) - 1)
    code = "import sys; from experiments.cli import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert expected <= set(re.split(r"[\s,]+", done.stdout)), (done.stdout, done.stderr)


def test_a_bad_value_is_one_line_before_the_libraries_are_loaded():
    code = (
        "import sys; from experiments.commands.train import main; status = main(['--epochs', '0'])\n"
        "assert not {'tensorflow', 'keras', 'mlflow'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "mrcnn: --train.epochs=0: expected 'auto' or greater than or equal to 1\n"
