"""The console script `mrcnn`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

COMMANDS = ("check", "prepare", "train", "sweep", "baselines", "predict", "demo", "compare", "export", "sync")
ELSEWHERE = {"sweep": "sweeps.command"}
"""Each the module here, or the one said, whose `main` it is, imported when it is asked for: what one needs may take
another seconds."""

USAGE = """\
usage: mrcnn COMMAND ...

  check     look at a data set before training: what is there, what is wrong, pictures; `mrcnn check --help`
  prepare   make a data set with left and right lungs of chest films; `mrcnn prepare --help`
  train     train, evaluate, track and register a Mask R-CNN; `mrcnn train --help` explains each option
  sweep     search a task's settings with many trainings, and register the best; `mrcnn sweep --help`
  baselines train a ResUNet and a classifier on the same split, and compare; `mrcnn baselines --help`
  predict   find instances in images, volumes and videos with a trained model; `mrcnn predict --help`
  demo      a page on this machine that shows what a trained model finds in an image; `mrcnn demo --help`
  compare   trained models side by side on the same test images, and who is champion; `mrcnn compare --help`
  export    write a trained model as a TensorFlow SavedModel or as ONNX, which run without this project
  sync      deliver what was logged while the tracking server was away; `mrcnn sync --help`

  --version
Research use only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in COMMANDS:
        return import_module(ELSEWHERE.get(command, f"experiments.commands.{command}")).main(rest)
    if command == "--version":
        print(f"medmrcnn {version('medmrcnn')}")
        return 0
    if command in ("--help", "-h"):
        print(USAGE)
        return 0
    print(f"mrcnn: {command!r} is no command; expected {' or '.join(COMMANDS)}", file=sys.stderr)
    return 2
