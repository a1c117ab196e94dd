"""The command `mrcnn compare --modality mri`, also `python -m experiments.commands.compare`: checks first, then the
work."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.commands.arguments import CompareArgs
from experiments.commands.exit_status import TERMINATED, exit_status, quiet_libraries, silent_start
from experiments.config.overrides import parse_arguments, parse_value, parse_words
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from trackers.runs.local_store import require_writable_store

HELP = """\
Compare trained models on the same test images, and see who should be champion.

usage: mrcnn compare --modality NAME [--promote] [--dry-run] [--output FOLDER]
       mrcnn compare --models A,B[,C ...] [the same options]
       python -m experiments.commands.compare ...                          the same
       mlflow run . -e compare -P modality=mri [-P promote=true] [-P dry_run=true]

  --modality  ultrasound, mri, xray, ct, …: the registered models that could be champion
  --models    instead: runs, by id or as runs:/<id>, models:/<name>/<version> or models:/<name>@<alias>, with commas;
              the others are measured against the first
  --promote   move champion and champion-<task> to the versions that won
  --dry-run   say what would be moved, and move nothing; write and record the rest
  --output    of comparison.html and comparison.json; otherwise compare-<modality>

Who is measured on what, and who is champion: docs/compare.md. Research use only.
"""
OPTIONS = ("modality", "models", "promote", "dry_run", "output")
SWITCHES = ("promote", "dry_run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. What nobody foresaw is raised, for its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return 0
    return exit_status(lambda: _compare(parse_command(arguments)))


def _compare(chosen: CompareArgs) -> int:
    require_writable_store()
    quiet_libraries()
    with silent_start():
        import mrcnn.models  # noqa: F401
        from experiments.comparison.job import compare
        from trackers.offline.server import check_reachable
        from trackers.runs.signals import Terminated

    try:
        check_reachable()
        compare(chosen)
    except Terminated:
        print("mrcnn: terminated", file=sys.stderr)
        return TERMINATED
    return 0


def parse_command(arguments: Sequence[str]) -> CompareArgs:
    """The command line, checked before anything heavy is loaded.

    Raises:
        InputError: a word or value that is not understood.
    """
    options = parse_arguments(_spelled_out(arguments))
    if unknown := sorted(options.keys() - set(OPTIONS)):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in OPTIONS)
        raise InputError(f"--{unknown[0]}: no such option; expected {names}")
    if ("modality" in options) == ("models" in options):
        raise InputError("expected either --modality, such as mri, or --models, such as two runs' ids with a comma")
    modality = options.get("modality")
    if modality is not None and not re.fullmatch("[a-z][a-z0-9_]*", modality):
        raise InputError(f"--modality {modality}: expected a name such as ultrasound, mri, xray or ct")
    models = tuple(parse_words("models", options.get("models", "")))
    if modality is None and len(models) < 2:
        raise InputError(f"--models {options['models']}: expected at least two, with commas")
    output = options.get("output")
    return CompareArgs(
        modality,
        models,
        _truth("promote", options),
        _truth("dry_run", options),
        None if output is None else standing_folder() / Path(output).expanduser(),
    )


def _spelled_out(arguments: Sequence[str]) -> list[str]:
    """`--dry-run` as `--dry_run`, and a switch by itself as `--promote=true`."""
    words: list[str] = []
    rest: list[Any] = [*arguments, None]
    for word, following in pairwise(rest):
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            words.append(word)
            continue
        name = name[2:].replace("-", "_")
        alone = name in SWITCHES and not equals and (following is None or following.startswith("--"))
        words.append(f"--{name}=true" if alone else f"--{name}{equals}{value}")
    return words


def _truth(name: str, options: dict[str, str]) -> bool:
    value = parse_value(name, options.get(name, "false"))
    if not isinstance(value, bool):
        raise InputError(f"--{name} {options[name]}: expected true or false")
    return value


if __name__ == "__main__":
    sys.exit(main())
