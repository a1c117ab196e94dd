"""The command `python -m experiments.commands.prepare --task lung`, also `mrcnn prepare`: films to left and right
lungs.

    mrcnn prepare --dataset FOLDER                    images with a mask of both lungs each, see
    `experiments.preparation.chest_xrays`
    mrcnn prepare --dataset FOLDER --model MODEL      images alone, and a trained lung model: a .keras file, a run or
                                                      models:/mrcnn-xray@champion
    mrcnn prepare                                     phantoms in the same form

Sides follow from geometry (`experiments.findings.lung_sides`). A film that they do not follow for is left out of the
data set and listed in report.json and report.csv with the reason. sides.png shows what was decided.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.commands.exit_status import exit_status, quiet_libraries, silent_start
from experiments.config.overrides import parse_arguments, parse_value
from experiments.config.resolve import resolve
from experiments.config.schema import WEIGHTS, TaskConfig
from experiments.findings.lung_sides import Sides, sides_of
from experiments.preparation.chest_xrays import Film, read_films
from experiments.preparation.datasets import cache_folder, dataset_path, standing_folder
from experiments.preparation.prepared_dataset import Decided, write_prepared
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.io.label_images import read_label_image
from mrcnn.data.readers.mask_checks import MaskChecks
from mrcnn.data.readers.options import MasksOptions
from mrcnn.data.readers.orientation import on_shown
from mrcnn.errors import InputError
from mrcnn.phantoms import write_films

OPTIONS = {
    "task": "lung; any task with findings: lungs",
    "dataset": "folder of films; without one phantoms are made and prepared",
    "output": "folder to write, new or one that this command wrote; default: the data set's name and _sides, here",
    "model": "a trained lung model that draws the masks: a .keras file, a run, runs:/… or models:/…",
    "confidence": "least score of a lung that the model finds; default 0.5",
    "mirrored": "true: films that say nothing of it hang the other way round; default false",
}
PHANTOM_FILMS = 24


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--help" in arguments or "-h" in arguments:
        print(__doc__ + "\n" + "\n".join(f"  --{name:11} {text}" for name, text in OPTIONS.items()))
        return 0
    return exit_status(lambda: _prepare(arguments))


def _prepare(arguments: Sequence[str]) -> None:
    prepare(parse_arguments(arguments))


def check_options(given: Mapping[str, str]) -> tuple[TaskConfig, bool, float]:
    """The task, whether films hang mirrored, and the least score of a lung.

    Raises:
        InputError: an option or a value that is not known.
    """
    for name in given.keys() - OPTIONS.keys():
        raise InputError(f"--{name}: no such option of prepare; expected {', '.join(OPTIONS)}")
    task = resolve(["--task", given.get("task", "lung")]).config
    if task.findings != "lungs":
        raise InputError(f"--task {task.task}: there is nothing to prepare; expected a task with findings: lungs")
    mirrored = parse_value("mirrored", given.get("mirrored", "false"))
    confidence = parse_value("confidence", given.get("confidence", "0.5"))
    if not isinstance(mirrored, bool):
        raise InputError(f"--mirrored {given['mirrored']}: expected true or false")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise InputError(f"--confidence {given['confidence']}: expected a number from 0 to 1")
    return task, mirrored, float(confidence)


def prepare(given: Mapping[str, str]) -> Path:
    """Builds the data set; returns its folder.

    Raises:
        InputError: an unknown option, or films that cannot be read.
    """
    task, mirrored, confidence = check_options(given)
    if "dataset" in given:
        folder = dataset_path(given["dataset"])
    else:
        folder = write_films(cache_folder() / "phantoms" / f"films-{PHANTOM_FILMS}", images=PHANTOM_FILMS, seed=0)
    output = standing_folder() / Path(given.get("output", f"{folder.name}_sides")).expanduser()
    films = read_films(folder, with_masks="model" not in given)
    console, checks = Console(highlight=False), MaskChecks(MasksOptions())
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        if "model" in given:
            mask_of = _masks_by(given["model"], task.task, confidence, Path(scratch))
        else:
            mask_of = partial(drawn_mask, checks)
        prepared = write_prepared(_decided(films, mask_of, mirrored), films, output)
    console.print(prepared.text(), markup=False, soft_wrap=True)
    for warning in checks.warnings():
        console.print(f"warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    return output


def _decided(
    films: Sequence[Film], mask_of: Callable[[Film, np.ndarray], np.ndarray], mirrored: bool
) -> Iterator[Decided]:
    for film in films:
        image = read_image(film.image)
        mask = mask_of(film, image)
        hangs_mirrored, doubt = film.hanging(mirrored)
        yield film, image, Sides(doubt=doubt) if doubt else sides_of(mask, mirrored=hangs_mirrored), mask


def drawn_mask(checks: MaskChecks, film: Film, image: np.ndarray) -> np.ndarray:
    """(H, W) bool from the film's mask file: what is not 0, once `checks` have cleaned it.

    Raises:
        InputError: it is no mask, has another size than the image, or its edges are blended.
    """
    labels = read_label_image(film.mask)
    row = {"height": image.shape[0], "width": image.shape[1], "orientation": read_header(film.image).orientation}
    mask = checks.clean(on_shown(labels, row, str(film.mask)), film.mask.name, labels.from_alpha) > 0
    for _ in checks.look_at([(1, mask)], film.mask.name):
        pass
    return mask


def _masks_by(spec: str, task: str, confidence: float, folder: Path) -> Callable[[Film, np.ndarray], np.ndarray]:
    """What draws masks with a model: the union of all that it finds."""
    quiet_libraries()
    with silent_start():
        from trackers.packaging.tracked_model import load_tracked_model

    if spec != "last" and not WEIGHTS.fullmatch(spec):
        path = standing_folder() / Path(spec).expanduser()
        if path.suffix != ".keras" or not path.is_file():
            raise InputError(f"--model {spec}: expected a .keras file, a run's id, runs:/… or models:/…")
        spec = str(path)
    model = load_tracked_model(spec, task=task, folder=folder).predictor()

    def draw(film: Film, image: np.ndarray) -> np.ndarray:
        (found,) = model.detect([image])
        return found.above(confidence).masks.any(axis=0)

    return draw


if __name__ == "__main__":
    sys.exit(main())
