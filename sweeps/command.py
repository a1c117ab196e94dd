"""The command `mrcnn sweep`, also `python -m sweeps.command`."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import click

from experiments.commands.arguments import with_absolute_paths
from experiments.commands.command import FAILED, Command, run_job
from experiments.config.config_options import SchemaOption, config_options, options
from experiments.config.overrides import parse_option
from experiments.config.resolve import Resolved, resolve_options, task_options
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from sweeps.options import SweepArgs, SweepOptions, check_options
from sweeps.space import check_space, task_of

FIELDS = dict(options(SweepOptions, without=["space"]))
AGAIN = "the same command goes on from here"


def _run(arguments: tuple[Resolved, SweepOptions]) -> int:
    sweep_arguments = complete(*arguments)
    return run_job(lambda: _job(sweep_arguments), f"terminated; {AGAIN}")


def _job(arguments: SweepArgs) -> Callable[[], int]:
    from sweeps.sweep import NothingFinished, sweep

    def job() -> int:
        try:
            sweep(arguments)
        except NothingFinished as error:
            print(f"mrcnn: {error}", file=sys.stderr)
            return FAILED
        return 0

    return job


@click.command(
    "sweep",
    cls=Command,
    work=_run,
    stopped=f"stopped; {AGAIN}",
    params=[
        *task_options(),
        *(SchemaOption([key], field, group="Search") for key, field in FIELDS.items()),
        *config_options(taken=FIELDS),
    ],
)
def command(**texts: str | None) -> tuple[Resolved, SweepOptions]:
    """Search the settings of a task: run many trainings, stop those with poor results, register the best model.

    Also: python -m sweeps.command ..., and mlflow run . -e sweep -P task=NAME -P KEY=VALUE ...

    The section `sweep` of the task's file defines the search space; docs/how-to/sweeps.md explains it. The same command
    again continues an interrupted sweep. All options of `mrcnn train --help all` are valid, and apply to every trial.
    """
    given = {
        key: parse_option(key, text, field.annotation)
        for key, field in FIELDS.items()
        if (text := texts.get(key)) is not None
    }
    resolved = resolve_options(texts)
    if resolved.config.data.folds:
        raise InputError(
            f"data.folds={resolved.config.data.folds}: expected null in a sweep, whose trials all use one validation "
            "split; cross-validate the best trial afterwards"
        )
    if resolved.config.train.seeds:
        raise InputError(
            f"train.seeds={resolved.config.train.seeds}: expected null in a sweep; train the best trial with seeds"
        )
    if resolved.config.train.devices != 1:
        raise InputError(f"train.devices={resolved.config.train.devices}: expected 1 in a sweep; it has workers")
    sweep_options = check_options(resolved.sweep, str(resolved.file), given)
    config = task_of(sweep_options.objectives or (resolved.config.evaluate.metric,), resolved.config)
    space = check_space(sweep_options.space, config, str(resolved.file))
    return replace(resolved, config=config), sweep_options.model_copy(update={"space": space})


def parse_command(arguments: Sequence[str]) -> SweepArgs:
    """Validate the command line for `sweeps.sweep.sweep`.

    Raises:
        InputError: an option is invalid, or the dataset or the weights do not exist.
    """
    return complete(*command.parse(arguments))


def complete(resolved: Resolved, sweep_options: SweepOptions) -> SweepArgs:
    """Make paths absolute, and add the defaults of the objectives, the storage and the study.

    Raises:
        InputError: the dataset or the weights do not exist.
    """
    resolved = with_absolute_paths(resolved)
    objectives = sweep_options.objectives or (resolved.config.evaluate.metric,)
    storage = sweep_options.storage or f"sqlite:///{standing_folder() / 'sweeps.db'}"
    study = sweep_options.study or study_name(resolved, sweep_options, objectives)
    return SweepArgs(resolved, sweep_options, objectives, storage, study)


def study_name(resolved: Resolved, options: SweepOptions, objectives: Sequence[str]) -> str:
    """Name a study by its task and a digest of the settings that affect a trial, so that the same command finds it."""
    settings = options.model_dump(mode="json", include={"sampler", "pruner", "thresholds", "space"})
    settings |= {"config": resolved.config.model_dump(mode="json"), "objectives": list(objectives)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{resolved.config.task}-{digest[:8]}"


main = command.run

if __name__ == "__main__":
    sys.exit(main())
