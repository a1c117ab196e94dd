"""The command `mrcnn export MODEL --to FORM`, also `python -m experiments.commands.export`: checks first, then the
work."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.commands.arguments import check_model_address
from experiments.commands.exit_status import exit_status, quiet_libraries, silent_start
from experiments.config.overrides import parse_arguments
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from mrcnn.export import FORMS
from mrcnn.export.exporting import check_form

HELP = """\
Write a trained model so that it runs without this project.

usage: mrcnn export MODEL --to saved_model|onnx [--output PATH] [--task NAME]
       python -m experiments.commands.export ...                           the same
       mlflow run . -e export -P model=MODEL -P to=FORM ...       the same, in an environment of its own

  MODEL      a .keras file; models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; or last,
             the newest finished run of the task
  --to       saved_model: a folder for TensorFlow and its servers; onnx: a file for onnxruntime
  --output   of the new folder or file; mask_rcnn or mask_rcnn.onnx where you are
  --task     whose last run, thyroid

What the model takes and returns: docs/export.md. Research use only.
"""


@dataclass(frozen=True)
class ExportArgs:
    """What to export, in which form, and where to."""

    model: str
    form: str
    output: Path
    task: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"--help", "-h"} & set(arguments):
        print(HELP, end="")
        return 0
    return exit_status(lambda: _export(_parse_command(arguments)))


def _parse_command(arguments: Sequence[str]) -> ExportArgs:
    """The command line, checked before anything heavy is loaded.

    Raises:
        InputError: a word that is not understood, a model file that is not there, an output that is.
    """
    model, *rest = arguments
    if model.startswith("--"):
        raise InputError(f"{model}: expected the model first, as in mrcnn export model.keras --to onnx")
    options = parse_arguments(rest)
    if unknown := sorted(options.keys() - {"to", "output", "task"}):
        raise InputError(f"--{unknown[0]}: no such option; expected --to, --output or --task")
    if "to" not in options:
        raise InputError(f"--to: missing; expected {' or '.join(FORMS)}")
    model = check_model_address(model)
    form = options["to"]
    output = standing_folder() / Path(options.get("output", f"mask_rcnn{FORMS.get(form, '')}")).expanduser()
    check_form(form, output)
    return ExportArgs(model, form, output, options.get("task", "thyroid"))


def _export(wanted: ExportArgs) -> None:
    quiet_libraries()
    with silent_start():
        from mrcnn.export import export_model
        from mrcnn.models import load
        from trackers.packaging.tracked_model import load_tracked_model

    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        kept = load_tracked_model(wanted.model, task=wanted.task, folder=Path(folder))
        model = load(kept.file)
        notes = export_model(model, wanted.form, wanted.output, confidence=kept.confidence)
    if kept.flips:
        print(
            "mrcnn: warning: the confidence was chosen with test-time augmentation, which an exported model leaves out",
            file=sys.stderr,
        )
    print(
        f"Wrote {wanted.output}: classes {', '.join(model.config.class_names)}; instances of a score of at least "
        f"{float(notes['confidence']):g}. {notes['notice']}"
    )


if __name__ == "__main__":
    sys.exit(main())
