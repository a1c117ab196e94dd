"""The command `mrcnn plan`: print what would be trained on a data set, and why, without the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from experiments.commands.arguments import with_absolute_paths
from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText
from experiments.config.config_options import config_options
from experiments.config.resolve import resolve_options, task_options
from mrcnn.errors import InputError, counted

if TYPE_CHECKING:
    from experiments.config.resolve import Resolved


def _plan(resolved: Resolved) -> int:
    import tempfile
    from pathlib import Path

    from experiments.terminal import Terminal, phase

    quiet_libraries()
    with silent_start():
        from experiments.preparation.data_check import DEVELOPMENT, check_data
        from experiments.training.planner import make_plan
        from trackers.checkpoints.initial_weights import model_file

    config = with_absolute_paths(resolved).config
    console = Terminal()
    checked = check_data(config, console)
    checked.raise_if_wrong()
    splits = {name: checked.whole.subset(chosen) for name, chosen in checked.splits.items() if len(chosen)}
    training = splits.get("train") or splits[DEVELOPMENT]
    with phase(console, "Planning"), tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        plan = make_plan(
            config,
            training,
            lambda weights: model_file(weights, task=config.task, folder=Path(folder)),
            validation_images=len(splits.get("val", ())),
        )
    size = f"{len(training)} of {counted(len(checked.whole), 'image')} to train on"
    console.print(f"Plan of task {config.task} for {checked.name}: {size}", style="bold", markup=False)
    for line in plan.lines():
        console.print(line, markup=False)
    return 0


@click.command("plan", cls=Command, work=_plan, params=[*task_options(), *config_options()])
@click.argument("dataset", required=False, type=PathText())
def command(dataset: str | None, **texts: str | None) -> Resolved:
    """Print what `mrcnn train` would train on a data set, each decision with its reason, without the training.

    DATASET is a folder of images with their annotations, or the JSON file; without it, the phantoms of the task.

    All options of `mrcnn train --help all` are valid. Options that are given are not planned, so they are not printed.
    The time is an estimate; a training measures its steps and fits their number to the budget. Research use only.
    """
    if dataset is not None:
        if texts["data.dataset"] is not None:
            raise InputError(f"--data.dataset {texts['data.dataset']}: expected once; DATASET is {dataset}")
        texts["data.dataset"] = dataset
    return resolve_options(texts)


main = command.run
