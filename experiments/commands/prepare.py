"""The command `mrcnn prepare`, also `python -m experiments.commands.prepare`: chest films to left and right lungs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.arguments import check_model_address
from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, fraction, option, switch
from experiments.config.resolve import resolve
from experiments.config.schema import TaskConfig
from experiments.preparation.datasets import cache_folder, dataset_path, standing_folder
from mrcnn.data.reader_options import MasksOptions
from mrcnn.errors import InputError, counted

if TYPE_CHECKING:
    import numpy as np

    from experiments.preparation.chest_xrays import Film

PHANTOM_FILMS = 24


@dataclass(frozen=True)
class PrepareArgs:
    """Validated arguments."""

    task: TaskConfig
    dataset: str | None
    output: str | None
    model: str | None
    confidence: float
    mirrored: bool


def _prepare(arguments: PrepareArgs) -> None:
    from experiments.preparation.chest_xrays import read_films
    from experiments.preparation.prepared_dataset import decide_sides, read_lung_mask, write_prepared
    from experiments.terminal import Terminal, phase, warn
    from mrcnn.data.readers.mask_checks import MaskChecks
    from mrcnn.phantoms import write_films

    if arguments.dataset is not None:
        folder = dataset_path(arguments.dataset)
    else:
        folder = write_films(cache_folder() / "phantoms" / f"films-{PHANTOM_FILMS}", images=PHANTOM_FILMS, seed=0)
    output = standing_folder() / Path(arguments.output or f"{folder.name}_sides").expanduser()
    films = read_films(folder, with_masks=arguments.model is None)
    console, checks = Terminal(), MaskChecks(MasksOptions())
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        if arguments.model is not None:
            mask_of = _masks_by(arguments.model, arguments.task.task, arguments.confidence, Path(scratch))
        else:
            mask_of = partial(read_lung_mask, checks)
        with phase(console, f"Preparing {counted(len(films), 'film')}"):
            prepared = write_prepared(decide_sides(films, mask_of, arguments.mirrored), films, output)
    console.print(prepared.text(), markup=False)
    for warning in checks.warnings():
        warn(console, warning)


def _masks_by(address: str, task: str, confidence: float, folder: Path) -> Callable[[Film, np.ndarray], np.ndarray]:
    """Return a function that segments a film with a model: the union of all instances."""
    quiet_libraries()
    with silent_start():
        import numpy as np

        from trackers.packaging.tracked_model import load_tracked_model
    model = load_tracked_model(address, task=task, folder=folder).predictor()

    def draw(film: Film, image: np.ndarray) -> np.ndarray:
        (found,) = model.detect([image])
        return np.asarray(found.above(confidence).masks.any(axis=0))

    return draw


@click.command("prepare", cls=Command, work=_prepare)
@option("--task", default="lung", metavar="NAME", help="a task with findings: lungs; default lung")
@option("--dataset", type=PathText(), metavar="FOLDER", help="folder of films; without it, phantoms are made")
@option(
    "--output",
    type=PathText(),
    metavar="FOLDER",
    help="new folder, or an earlier output of this command; default <dataset>_sides in the current folder",
)
@option(
    "--model",
    type=PathText(),
    metavar="MODEL",
    help="a trained lung model that segments films without masks: a .keras file, a run, runs:/<id> or models:/<name>",
)
@option(
    "--confidence",
    default="0.5",
    callback=fraction,
    metavar="NUMBER",
    help="minimum score of a lung that the model finds; default 0.5",
)
@switch("--mirrored", help="films without a recorded orientation are mirrored")
def command(
    task: str, dataset: str | None, output: str | None, model: str | None, confidence: float, mirrored: bool
) -> PrepareArgs:
    """Make a data set with left and right lungs from chest films.

    The folder holds images with a mask of both lungs each, or images alone, which need a --model.
    `experiments.preparation.chest_xrays` describes its form.

    Also: python -m experiments.commands.prepare ..., and mlflow run . -e prepare -P dataset=FOLDER ...

    The sides follow from geometry (`experiments.findings.lung_sides`). A film without a clear side is left out of the
    data set and listed in report.json and report.csv with the reason. sides.png shows the result.
    """
    config = resolve(["--task", task]).config
    if config.findings != "lungs":
        raise InputError(f"--task {config.task}: there is nothing to prepare; expected a task with findings: lungs")
    if model is not None:
        model = check_model_address(model, f"--model {model}")
    return PrepareArgs(config, dataset, output, model, confidence, mirrored)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
