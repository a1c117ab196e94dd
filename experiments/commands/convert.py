"""The command `mrcnn convert`: write a data set in the form of another annotation tool."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from experiments.commands.command import Command
from experiments.config.command_line import PathText, option
from experiments.config.config_options import dataset_options
from experiments.config.resolve import data_options
from experiments.config.schema import DataOptions
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import counted

FORMS = ("coco", "yolo", "labelme", "nnunet", "label_studio", "cvat")


@dataclass(frozen=True)
class ConvertArgs:
    """Validated arguments."""

    data: DataOptions
    output: Path
    form: str


def _convert(arguments: ConvertArgs) -> None:
    from experiments.preparation.datasets import open_dataset
    from experiments.terminal import Terminal, phase, warn
    from mrcnn.data.writers import write_dataset

    console = Terminal()
    with phase(console, "Reading the annotations"):
        dataset = open_dataset(arguments.data)
    if arguments.data.on_error == "fail" and dataset.problems is not None:
        dataset.problems.raise_if_any()
    dataset = dataset.without_invalid()
    with phase(console, f"Writing {counted(len(dataset), 'image')}"):
        warnings = write_dataset(dataset, arguments.output, arguments.form)
    for warning in (*dataset.warnings, *dataset.skipped, *warnings):
        warn(console, warning)
    instances = sum(len(record.class_ids) for record in dataset.records)
    console.print(
        f"Written: {counted(len(dataset), 'image')}, {counted(instances, 'instance')} of "
        f"{', '.join(dataset.class_names)}; in "
        f"{arguments.output}",
        markup=False,
    )


@click.command(
    "convert",
    cls=Command,
    work=_convert,
    params=dataset_options(),
    no_args_is_help=True,
    options_metavar="--to FORM [OPTIONS]",
)
@click.argument("dataset", type=PathText())
@click.argument("output", type=PathText())
@option("--to", "form", required=True, type=click.Choice(FORMS), help="form of the written data set")
def command(dataset: str, output: str, form: str, **texts: str | None) -> ConvertArgs:
    """Write a data set with its images in the form of another annotation tool.

    DATASET is a folder of images with their annotations, or the JSON file, in any form that `mrcnn train` reads.

    OUTPUT is a new or an empty folder.

    Masks stay equal to the pixel where the form can hold them. Warnings name what it cannot hold, with the number of
    images or instances. docs/reference/formats.md has the details. Research use only.
    """
    data = data_options({**texts, "data.dataset": dataset})
    return ConvertArgs(data, (standing_folder() / Path(output).expanduser()).resolve(), form)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
