"""The command `mrcnn train`, also `python -m experiments.commands.train`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import click

from experiments.commands.arguments import with_absolute_paths
from experiments.commands.command import Command, run_job
from experiments.config.command_line import option
from experiments.config.config_options import config_options
from experiments.config.resolve import Resolved, parameters, resolve_options, task_options
from mrcnn.errors import InputError

COMMON = (
    "data.dataset", "train.budget", "train.preset", "train.epochs", "train.batch_size", "train.learning_rate",
    "model.image_size", "model.backbone", "train.weights", "data.patient_pattern", "data.folds", "seed",
)  # fmt: skip
"""Options of the configuration that `mrcnn train --help` shows."""
AGAIN = "the same command with --resume auto continues after the last complete epoch"


def run_training(
    make_job: Callable[[Resolved, str | None], Callable[[], str]], arguments: tuple[Resolved, str | None]
) -> int:
    """Run the training that `make_job` returns for a configuration and its `--resume`; return the exit status."""
    resolved, resume = arguments
    resolved = with_absolute_paths(resolved)
    return run_job(lambda: make_job(resolved, resume), f"terminated; {AGAIN}")


def training_job(resolved: Resolved, resume: str | None) -> Callable[[], str]:
    """Return the training, a cross-validation or one with several seeds; its result is the id of the run."""
    from experiments.training.cross_validation import cross_validate
    from experiments.training.seeds import train_seeds
    from experiments.training.trainer import train

    if resolved.config.data.folds:
        return partial(cross_validate, resolved, resume)
    return partial(train_seeds if resolved.config.train.seeds else train, resolved, resume)


def _help_values(texts: Mapping[str, Any]) -> dict[str, Any]:
    return parameters(resolve_options(texts).config)


@click.command(
    "train",
    cls=Command,
    work=partial(run_training, training_job),
    stopped=f"stopped; {AGAIN}",
    help_values=_help_values,
    params=[*task_options(), *config_options(listed=COMMON)],
)
@option(
    "--resume",
    metavar="auto | RUN",
    help="continue an interrupted training of the same configuration and data in its run: the run's id, or auto for "
    "the newest one, or a new run where none exists",
)
@option("--name", metavar="TEXT", help="name of the run; default such as `thyroid lite0-384 e40 s0`")
def command(resume: str | None, name: str | None, **texts: str | None) -> tuple[Resolved, str | None]:
    """Train, evaluate, track and register a Mask R-CNN.

    \b
    mrcnn train --dataset my-images --budget 30m
    mrcnn train --task thyroid                      # on synthetic images
    mlflow run . -P dataset=$PWD/my-images          # in a separate environment

    An option may be shortened to its last part: --train.epochs is --epochs. A value is YAML: 3, null, [0.9, 0.1, 0]. A
    list needs no brackets: 0.9,0.1,0. The help shows the values for the given task and profile. Research use only.
    """  # noqa: D301 - the character by which click keeps line breaks
    return replace(resolve_options(texts), name=name), check_resume(resume)


def check_resume(resume: str | None) -> str | None:
    """Return the value of `--resume`; raise `InputError` if it is neither `auto` nor the id of a run."""
    if resume is not None and resume != "auto" and not re.fullmatch("[0-9a-f]{32}", resume):
        raise InputError(f"--resume {resume}: expected auto or the id of an interrupted run")
    return resume


main = command.run

if __name__ == "__main__":
    sys.exit(main())
