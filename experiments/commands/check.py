"""The command `mrcnn check <dataset>`: what is there and what is wrong, with pictures, before any training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.commands.exit_status import BAD_INPUT
from experiments.config.resolve import resolve
from experiments.preparation.data_check import check_data, show
from experiments.preparation.data_report import write_report
from experiments.preparation.datasets import dataset_name, standing_folder
from mrcnn.data.readers.problems import DataError
from mrcnn.errors import InputError

HELP = """\
Look at a data set before training on it: what is there, what is wrong, and pictures of it.

usage: mrcnn check [DATASET] [--to FOLDER] [--task NAME] [--KEY VALUE ...]

  DATASET    folder of images with their annotations, or the JSON file; without it the task's phantoms
  --to       where the report goes: report.html, report.json, pictures; otherwise check-<name of the dataset>
  --task     the task that it is meant for, thyroid unless told otherwise
  --KEY      any option of `mrcnn train --help`; of use are those of data, such as --reader and --patient_pattern

Every training begins with the same check, without the pictures. The exit status is 2 where something is wrong.
Research use only."""
OK = 0


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    if any(word in ("--help", "-h") for word in arguments):
        print(HELP)
        return OK
    try:
        return _check(list(arguments))
    except InputError as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return BAD_INPUT


def _check(words: list[str]) -> int:
    dataset = ["--dataset", words.pop(0)] if words and not words[0].startswith("--") else []
    target = _take(words, "--to")
    config = resolve([*dataset, *words]).config
    console = Console(highlight=False)
    checked, problems = None, ()
    name = dataset_name(config.data)
    try:
        checked = check_data(config)
        problems = checked.problems
        show(checked, console)
    except DataError as error:
        problems = error.problems
    for problem in problems:
        console.print(f"problem: {problem}", style="red", markup=False, soft_wrap=True)
    folder = standing_folder() / Path(target or f"check-{name.replace(' ', '-')}").expanduser()
    try:
        page = write_report(folder, name, checked, problems)
    except OSError as error:
        raise InputError(f"--to {folder}: cannot be written ({error.strerror})") from error
    console.print(f"Report: {page}", markup=False, soft_wrap=True)
    return BAD_INPUT if problems else OK


def _take(words: list[str], option: str) -> str | None:
    """The value of an option, which is taken out of `words`."""
    for index, word in enumerate(words):
        if word == option or word.startswith(f"{option}="):
            end = index + 1 if "=" in word else index + 2
            value = word.partition("=")[2] if "=" in word else "".join(words[index + 1 : end])
            if not value:
                raise InputError(f"{option}: expected a value after it")
            del words[index:end]
            return value
    return None
