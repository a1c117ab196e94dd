"""The command `mrcnn export`, also `python -m experiments.commands.export`."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from experiments.commands.arguments import check_model_address
from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, option
from experiments.preparation.datasets import standing_folder
from mrcnn.export import FORMS
from mrcnn.export.exporting import check_form


@dataclass(frozen=True)
class ExportArgs:
    """Validated arguments."""

    model: str
    form: str
    output: Path
    task: str


def _export(arguments: ExportArgs) -> None:
    quiet_libraries()
    with silent_start():
        from mrcnn.export import export_model
        from mrcnn.models import load
        from trackers.packaging.tracked_model import load_tracked_model

    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        tracked = load_tracked_model(arguments.model, task=arguments.task, folder=Path(folder))
        model = load(tracked.file)
        notes = export_model(model, arguments.form, arguments.output, confidence=tracked.confidence)
    if tracked.flips:
        print(
            "mrcnn: warning: the confidence was chosen with test-time augmentation, which an exported model leaves out",
            file=sys.stderr,
        )
    classes = ", ".join(json.loads(notes["class_names"]))
    print(
        f"Wrote {arguments.output}: classes {classes}; instances of a score of at least "
        f"{float(notes['confidence']):g}. {notes['notice']}"
    )


@click.command("export", cls=Command, work=_export, no_args_is_help=True, options_metavar="--to FORM [OPTIONS]")
@click.argument("model", type=PathText())
@option(
    "--to",
    "form",
    required=True,
    metavar=" or ".join(FORMS),
    help="saved_model: a folder for TensorFlow and its servers; onnx: a file for onnxruntime",
)
@option("--output", type=PathText(), metavar="PATH", help="new folder or file; default mask_rcnn or mask_rcnn.onnx")
@option("--task", default="any", metavar="NAME", help="the task of the model `last`; default any")
def command(model: str, form: str, output: str | None, task: str) -> ExportArgs:
    """Write a trained model so that it runs without this project.

    MODEL is a .keras file; models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; or last, the newest
    finished run of the task.

    Also: python -m experiments.commands.export ..., and mlflow run . -e export -P model=MODEL -P to=FORM ...

    docs/how-to/export.md describes the inputs and outputs of the exported model. Research use only.
    """
    model = check_model_address(model)
    path = standing_folder() / Path(output or f"mask_rcnn{FORMS.get(form, '')}").expanduser()
    check_form(form, path)
    return ExportArgs(model, form, path, task)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
