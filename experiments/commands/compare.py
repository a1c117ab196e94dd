"""The command `mrcnn compare`, also `python -m experiments.commands.compare`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from experiments.commands.arguments import CompareArgs
from experiments.commands.command import Command, run_job
from experiments.config.command_line import PathText, option, switch, word_list
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError


def _job(arguments: CompareArgs) -> Callable[[], object]:
    import mrcnn.models  # noqa: F401
    from experiments.comparison.job import compare

    return partial(compare, arguments)


@click.command(
    "compare",
    cls=Command,
    work=lambda arguments: run_job(lambda: _job(arguments)),
    no_args_is_help=True,
    options_metavar="--modality NAME | --models A,B[,C ...] [OPTIONS]",
)
@option(
    "--modality",
    metavar="NAME",
    help="ultrasound, mri, xray, ct, ...: compare the registered models that can be champion",
)
@option(
    "--models",
    callback=word_list,
    metavar="A,B,...",
    help="compare these models with the first: runs, by id or as runs:/<id>, models:/<name>/<version> or "
    "models:/<name>@<alias>",
)
@switch("--promote", help="move the aliases champion and champion-<task> to the best versions")
@switch("--dry-run", help="report the new aliases without moving them; write and record everything else")
@option(
    "--output",
    type=PathText(),
    metavar="FOLDER",
    help="folder of comparison.html and comparison.json; default compare-<modality>",
)
def command(
    modality: str | None, models: tuple[str, ...] | None, promote: bool, dry_run: bool, output: str | None
) -> CompareArgs:
    """Compare trained models on the same test images, and choose the champion.

    Also: python -m experiments.commands.compare ..., and mlflow run . -e compare -P modality=mri [-P promote=true]

    docs/how-to/compare.md explains the test images and the choice of the champion. Research use only.
    """
    if (modality is None) == (models is None):
        raise InputError("expected either --modality, such as mri, or --models, such as two runs' ids with a comma")
    if modality is not None and not re.fullmatch("[a-z][a-z0-9_]*", modality):
        raise InputError(f"--modality {modality}: expected a name such as ultrasound, mri, xray or ct")
    if models is not None and len(models) < 2:
        raise InputError(f"--models {','.join(models)}: expected at least two, with commas")
    folder = None if output is None else standing_folder() / Path(output).expanduser()
    return CompareArgs(modality, models or (), promote, dry_run, folder)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
