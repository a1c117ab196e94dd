"""The command `mrcnn export`, also `python -m experiments.commands.export`."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.commands.arguments import check_model_address
from experiments.commands.command import Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, option
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from mrcnn.export import FORMS
from mrcnn.export.exporting import check_form

if TYPE_CHECKING:
    import numpy as np

    from experiments.prediction.detector import Detector

MAX_IMAGES = 64
"""Most calibration images."""


@dataclass(frozen=True)
class ExportArgs:
    """Validated arguments."""

    model: str
    form: str
    output: Path
    calibration: str | None
    task: str


def _export(arguments: ExportArgs) -> None:
    quiet_libraries()
    with silent_start():
        from experiments.prediction.detector import make_detector
        from mrcnn.export import export_model
        from mrcnn.models import load
        from trackers.packaging.tracked_model import load_tracked_model

    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        tracked = load_tracked_model(arguments.model, task=arguments.task, folder=Path(folder))
        model, images = load(tracked.file), ()
        if arguments.calibration is not None:
            images = _calibration_images(arguments.calibration, make_detector(tracked))
            if (tile := model.config.tile) is not None:
                images = [_center(image, tile) for image in images]
        notes = export_model(model, arguments.form, arguments.output, confidence=tracked.confidence, calibration=images)
    if tracked.flips:
        print(
            "mrcnn: warning: the confidence was chosen with test-time augmentation, which an exported model leaves out",
            file=sys.stderr,
        )
    if "tile" in notes:
        print(
            f"mrcnn: warning: the model was trained on tiles of {notes['tile']}×{notes['tile']} pixels, and an "
            "exported model does not cut images: give it tiles, and merge what it finds as mrcnn.inference.tiles does",
            file=sys.stderr,
        )
    classes = ", ".join(json.loads(notes["class_names"]))
    print(
        f"Wrote {arguments.output}: classes {classes}; instances of a score of at least "
        f"{float(notes['confidence']):g}. {notes['notice']}"
    )
    if "agreement" in notes:
        agreement = json.loads(notes["agreement"])
        print(f"Mask IoU with the export in float32 on {agreement['images']} images: {agreement['mask_iou']:.3f}")


def _calibration_images(word: str, detector: Detector) -> list[np.ndarray]:
    """Read up to `MAX_IMAGES` images or slices, evenly spread, as the network sees them."""
    from experiments.prediction.frames import open_frames
    from experiments.prediction.inputs import find_inputs

    def refuse(address: str) -> Path:
        raise InputError(f"--calibration {address}: expected a folder or file on this machine")

    inputs = find_inputs([word], base=standing_folder(), output=Path(os.devnull), fetch=refuse)
    if inputs.problems:
        raise InputError(inputs.problems[0])
    items = inputs.items[:: math.ceil(len(inputs.items) / MAX_IMAGES)]
    images = []
    for item in items:
        frames = open_frames(item, detector)
        step = max(math.ceil(frames.expected * len(items) / MAX_IMAGES), 1)
        chosen = islice(frames.iterate(), step // 2, None, step)
        images += [frames.to_input(number, image) for number, image in chosen]
    return images


def _center(image: np.ndarray, tile: int) -> np.ndarray:
    """Cut the tile in the center of an image, as the network sees no more."""
    top, left = (max(side - tile, 0) // 2 for side in image.shape[:2])
    return image[top : top + tile, left : left + tile]


@click.command("export", cls=Command, work=_export, no_args_is_help=True, options_metavar="--to FORM [OPTIONS]")
@click.argument("model", type=PathText())
@option(
    "--to",
    "form",
    required=True,
    metavar=" or ".join(FORMS),
    help="saved_model: a folder for TensorFlow and its servers; onnx: a file for onnxruntime; onnx_int8: the same with "
    "8-bit integers, a quarter of the size",
)
@option(
    "--output", type=PathText(), metavar="PATH", help="new folder or file; default mask_rcnn, with .onnx or _int8.onnx"
)
@option(
    "--calibration",
    metavar="PATH",
    help="for onnx_int8: images, volumes or a folder of them, like those of the training, whose range of values the "
    f"integers cover; up to {MAX_IMAGES} images or slices are read",
)
@option("--task", default="any", metavar="NAME", help="the task of the model `last`; default any")
def command(model: str, form: str, output: str | None, calibration: str | None, task: str) -> ExportArgs:
    """Write a trained model so that it runs without this project.

    MODEL is a .keras file; models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; or last, the newest
    finished run of the task.

    Also: python -m experiments.commands.export ..., and mlflow run . -e export -P model=MODEL -P to=FORM ...

    docs/how-to/export.md describes the inputs and outputs of the exported model. Research use only.
    """
    model = check_model_address(model)
    path = standing_folder() / Path(output or f"mask_rcnn{FORMS.get(form, '')}").expanduser()
    check_form(form, path)
    if (form == "onnx_int8") != (calibration is not None):
        raise InputError(
            "--calibration: missing; --to onnx_int8 expects a folder of images like those of the training"
            if calibration is None
            else f"--calibration {calibration}: expected only with --to onnx_int8"
        )
    return ExportArgs(model, form, path, calibration, task)


main = command.run

if __name__ == "__main__":
    sys.exit(main())
