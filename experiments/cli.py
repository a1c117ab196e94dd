"""The console script `mrcnn`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from experiments import prepare, train

USAGE = """\
usage: mrcnn COMMAND ...

  train     train, evaluate, track and register a Mask R-CNN; `mrcnn train --help` explains each option
  prepare   make a data set with left and right lungs of chest films; `mrcnn prepare --help`

  --version
Research use only."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command == "train":
        return train.main(rest)
    if command == "prepare":
        return prepare.main(rest)
    if command == "--version":
        print(f"medmrcnn {version('medmrcnn')}")
        return 0
    if command in ("--help", "-h"):
        print(USAGE)
        return 0
    print(f"mrcnn: {command!r} is no command; expected train or prepare", file=sys.stderr)
    return 2
