"""The command `mrcnn suggest`, also `python -m experiments.commands.suggest`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from experiments.commands.arguments import SuggestArgs, check_model_address
from experiments.commands.command import BAD_INPUT, Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, option
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError

FORMS = ("labelme", "label_studio", "cvat", "yolo", "coco")


def _suggest(arguments: SuggestArgs) -> int:
    quiet_libraries()
    with silent_start():
        from experiments.external.suggestion import suggest_images

    problems = suggest_images(arguments)
    for problem in problems:
        print(f"mrcnn: {problem}", file=sys.stderr)
    return BAD_INPUT if problems else 0


@click.command("suggest", cls=Command, work=_suggest, no_args_is_help=True)
@click.argument("model", type=PathText())
@click.argument("folder", type=PathText())
@option("--images", type=click.IntRange(min=1), default=50, metavar="NUMBER", help="images to suggest; default 50")
@option(
    "--to", "form", type=click.Choice(FORMS), default="labelme", help="form of the pre-annotations; default labelme"
)
@option("--output", type=PathText(), metavar="FOLDER", help="new folder; default suggest-<name of the folder>")
@option("--task", default="any", metavar="NAME", help="the task of the model `last`; default any")
def command(model: str, folder: str, images: int, form: str, output: str | None, task: str) -> SuggestArgs:
    """Suggest which images of a folder to annotate next, and write them with the model's detections to correct.

    MODEL is models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished run of the
    task; or a .keras file.

    FOLDER has images without annotations.

    Images rank first where the model is unsure and that are unlike its training images and the ones ranked before; of
    near-duplicates only one. docs/how-to/suggest.md has the details. Research use only.
    """
    place = standing_folder() / Path(folder).expanduser()
    if not place.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with images")
    target = standing_folder() / Path(output or f"suggest-{place.resolve().name}").expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"--output {target}: contains files; expected a new or an empty folder")
    return SuggestArgs(check_model_address(model), str(place.resolve()), images, form, target.resolve(), task)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
