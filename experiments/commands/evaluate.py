"""The command `mrcnn evaluate`, also `python -m experiments.commands.evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from experiments.commands.arguments import EvaluateArgs, check_model_address
from experiments.commands.command import Command, run_job
from experiments.config.command_line import PathText, fraction, option, switch, word_list
from experiments.config.config_options import dataset_options
from experiments.config.overrides import parse_words
from experiments.config.resolve import data_options
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError


def _job(arguments: EvaluateArgs) -> Callable[[], None]:
    import mrcnn.models  # noqa: F401
    from experiments.external.evaluation import evaluate_external

    def job() -> None:
        evaluate_external(arguments)

    return job


def _pairs(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Parse a=b,c=d, also from several options."""
    words = [word for value in values for word in parse_words("map", value)]
    for word in words:
        if not all(word.partition("=")):
            raise InputError(f"--map {word}: expected a class of the data = a class of the model, as nodule=nodulo-iso")
    return tuple((word.partition("=")[0].strip(), word.partition("=")[2].strip()) for word in words)


@click.command(
    "evaluate",
    cls=Command,
    work=lambda arguments: run_job(lambda: _job(arguments)),
    params=dataset_options(),
    no_args_is_help=True,
)
@click.argument("model", type=PathText())
@click.argument("dataset", type=PathText())
@option(
    "--map",
    "classes",
    multiple=True,
    callback=_pairs,
    metavar="DATA=MODEL,...",
    help="a class of the data = the class of the model that it is compared with, such as nodule=nodulo-iso",
)
@switch("--class_agnostic", help="count all instances and all detections as of one class")
@option(
    "--subgroups",
    callback=word_list,
    metavar="NAME,...",
    help="also evaluate the images of each value of these columns of a CSV file beside the data, or of these fields of "
    "the images in a COCO file",
)
@option(
    "--recalibrate",
    callback=fraction,
    metavar="SHARE",
    help="choose the threshold anew on this share of the patients, such as 0.2, evaluate the others, and register the "
    "model with the new threshold as a new version",
)
@option("--task", default="thyroid", metavar="NAME", help="the task of the model `last`; default thyroid")
@option(
    "--output",
    type=PathText(),
    metavar="FOLDER",
    help="folder of report.html, evaluation.json and the tables; default evaluate-<name of the data set>",
)
def command(
    model: str,
    dataset: str,
    classes: tuple[tuple[str, str], ...],
    class_agnostic: bool,
    subgroups: tuple[str, ...] | None,
    recalibrate: float | None,
    task: str,
    output: str | None,
    **texts: str | None,
) -> EvaluateArgs:
    """Evaluate a trained model on a data set that it was not trained on, such as one of another hospital.

    MODEL is models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished run of the
    task; or a .keras file.

    DATASET is a folder of images with their annotations, or the JSON file, in any form that `mrcnn train` reads.

    Also: python -m experiments.commands.evaluate ..., and
    mlflow run . -e evaluate -P model=MODEL -P dataset=DATASET

    Images that the model was trained or validated on are left out. docs/how-to/evaluate.md explains the report.
    Research use only.
    """
    if class_agnostic and classes:
        raise InputError("--map and --class-agnostic: expected only one of them")
    if recalibrate is not None and not 0 < recalibrate < 1:
        raise InputError(f"--recalibrate {recalibrate:g}: expected a share between 0 and 1, such as 0.2")
    folder = None if output is None else standing_folder() / Path(output).expanduser()
    data = data_options({**texts, "data.dataset": dataset})
    address = check_model_address(model)
    return EvaluateArgs(address, data, classes, class_agnostic, subgroups or (), task, folder, recalibrate)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
