"""The command `mrcnn check`: report the content and the errors of a data set, with pictures, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.command import BAD_INPUT, Command, silent_start
from experiments.config.command_line import PathText, option
from experiments.config.config_options import config_options
from experiments.config.resolve import resolve_options, task_options
from experiments.preparation.datasets import dataset_name, standing_folder
from mrcnn.errors import InputError

if TYPE_CHECKING:
    from experiments.config.schema import TaskConfig


def _check(arguments: tuple[TaskConfig, str | None]) -> int:
    with silent_start():
        from experiments.preparation.data_check import check_data, show
        from experiments.preparation.data_report import write_report
        from experiments.terminal import Terminal
        from mrcnn.data.problems import DataError, group_similar

    config, target = arguments
    console = Terminal()
    checked, problems = None, ()
    name = dataset_name(config.data)
    try:
        checked = check_data(config, console)
        problems = checked.problems
        show(checked, console)
    except DataError as error:
        problems = error.problems
    for problem in group_similar(problems):
        console.print(f"problem: {problem}", style="red", markup=False)
    folder = standing_folder() / Path(target or f"check-{name.replace(' ', '-')}").expanduser()
    try:
        page = write_report(folder, name, checked, problems)
    except OSError as error:
        raise InputError(f"--to {folder}: cannot be written ({error.strerror})") from error
    console.print(f"Report: {page} (open it in a browser)", markup=False, soft_wrap=True)
    return BAD_INPUT if problems else 0


@click.command("check", cls=Command, work=_check, params=[*task_options(), *config_options()])
@click.argument("dataset", required=False, type=PathText())
@option(
    "--to",
    type=PathText(),
    metavar="FOLDER",
    help="folder of the report: report.html, report.json, pictures; default check-<name of the dataset>",
)
def command(dataset: str | None, to: str | None, **texts: str | None) -> tuple[TaskConfig, str | None]:
    """Report the content and the errors of a data set before training, with pictures.

    DATASET is a folder of images with their annotations, or the JSON file; without it, the phantoms of the task.

    All options of `mrcnn train --help all` are valid; those of the section `data` matter here, such as --reader and
    --patient_pattern. Every training begins with the same check, without the pictures. The exit status is 2 if there
    are errors. Research use only.
    """
    if dataset is not None:
        if texts["data.dataset"] is not None:
            raise InputError(f"--data.dataset {texts['data.dataset']}: expected once; DATASET is {dataset}")
        texts["data.dataset"] = dataset
    return resolve_options(texts).config, to


main = command.run
