"""The command `mrcnn predict`, also `python -m experiments.commands.predict`."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from experiments.commands.arguments import check_model_address
from experiments.commands.command import BAD_INPUT, Command, quiet_libraries, silent_start
from experiments.config.command_line import PathText, fraction, option, switch, word_list
from experiments.config.overrides import parse_words
from experiments.prediction.output_formats import DEFAULT_FORMATS, check_formats, unsupported_formats
from experiments.preparation.datasets import standing_folder
from mrcnn.config import TILE_SIDES
from mrcnn.errors import InputError
from trackers.runs.disk import disk_problem

if TYPE_CHECKING:
    from experiments.prediction.inputs import Inputs

AGAIN = "the same command again goes on from here"


@dataclass(frozen=True)
class PredictArgs:
    """Validated arguments. `explicit_forms` is False for the default forms."""

    model: str
    inputs: tuple[str, ...]
    output: Path
    forms: tuple[str, ...]
    explicit_forms: bool
    confidence: float | None
    spacing_mm: tuple[float, float] | None
    modalities: tuple[str, ...] | None
    tile: int | None
    task: str
    keep_patient: bool
    overwrite: bool


def _run(arguments: PredictArgs) -> int:
    try:
        return _predict(arguments)
    except OSError as error:
        problem = disk_problem(error, [arguments.output]) or f"{error.filename or 'output'}: {error.strerror or error}"
        raise InputError(f"{problem}; what is complete is kept, {AGAIN}") from error


def _predict(arguments: PredictArgs) -> int:
    """Predict the inputs; return the exit status.

    Raises:
        InputError: an error that prevents all predictions.
    """
    from experiments.terminal import Terminal, phase

    console = Terminal()
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        inputs = _inputs(arguments, Path(scratch), console)
        quiet_libraries()
        with silent_start():
            import mrcnn.models  # noqa: F401
            import trackers.packaging.tracked_model  # noqa: F401
            from experiments.prediction.detector import open_detector
        with phase(console, "Loading the model"):
            detector = open_detector(
                arguments.model, task=arguments.task, folder=Path(scratch) / "model", tile=arguments.tile
            )
        return _predict_inputs(arguments, inputs, detector, console)


def _inputs(arguments: PredictArgs, scratch: Path, console: Any) -> Inputs:
    from experiments.prediction.downloads import download
    from experiments.prediction.inputs import find_inputs
    from mrcnn.data.readers.volumes.brats import MODALITIES

    names = arguments.modalities
    if names is not None and (not names or len(set(names)) != len(names) or not set(names) <= set(MODALITIES)):
        raise InputError(f"--modalities {','.join(names)}: expected some of {', '.join(MODALITIES)}, each once")

    def fetch(address: str) -> Path:
        return download(address, Path(tempfile.mkdtemp(dir=scratch)))

    inputs = find_inputs(arguments.inputs, base=standing_folder(), output=arguments.output, fetch=fetch)
    if inputs.skipped:
        console.print(f"note: skipped: {inputs.skipped_line()}", markup=False)
    if arguments.explicit_forms and inputs.items:
        for line in unsupported_formats(arguments.forms, inputs.items):
            console.print(f"note: {line}", markup=False)
    if any(item.kind == "video" for item in inputs.items):
        from mrcnn.data.io.video import import_av

        import_av()  # reports a missing library before the model is loaded
    return inputs


def _predict_inputs(arguments: PredictArgs, inputs: Inputs, detector: Any, console: Any) -> int:
    from dataclasses import replace
    from importlib.metadata import version

    import numpy as np

    from experiments.evaluation.tables import prediction_table
    from experiments.findings import FINDINGS
    from experiments.prediction.detector import ALONE
    from experiments.prediction.progress_record import ProgressRecord
    from experiments.prediction.results import write_summary_files
    from experiments.prediction.run import Options, predict_items
    from mrcnn.detections import Detections
    from trackers.packaging.served import NOTICE

    if arguments.modalities is not None:
        if not detector.volumes or len(arguments.modalities) != detector.channels:
            raise InputError(
                f"--modalities {','.join(arguments.modalities)}: the model takes {detector.channels} channels"
                + ("" if detector.volumes else ", and was not trained on volumes of several modalities")
            )
        if detector.modalities not in (None, arguments.modalities):
            raise InputError(
                f"--modalities {','.join(arguments.modalities)}: the model was trained on "
                f"{','.join(detector.modalities)}"
            )
        detector = replace(detector, modalities=arguments.modalities)
    # An empty image reports classes that do not fit the findings before the work begins.
    FINDINGS[detector.findings](np.zeros((1, 1, 1), np.uint8), Detections.empty(1, 1), detector.class_names, None, None)
    confidence = detector.confidence if arguments.confidence is None else arguments.confidence
    about = {
        "model": detector.digest,
        "classes": list(detector.class_names),
        "confidence": confidence,
        "spacing_mm": None if arguments.spacing_mm is None else list(arguments.spacing_mm),
        "modalities": None if detector.modalities is None else list(detector.modalities),
        "findings": detector.findings,
        "medmrcnn": version("medmrcnn"),
        "notice": NOTICE,
    }
    if arguments.keep_patient:  # absent otherwise, so that folders of earlier versions can be continued
        about["keep_patient"] = True
    if arguments.tile is not None:
        about["tile"] = arguments.tile
    record = ProgressRecord(arguments.output, about, overwrite=arguments.overwrite)
    console.print(
        f"Classes {', '.join(detector.class_names)}; instances of a score of at least {confidence:g}; "
        f"inputs: {len(inputs.items)}",
        markup=False,
    )
    options = Options(confidence, arguments.forms, arguments.spacing_mm, arguments.keep_patient)
    report = predict_items(inputs.items, detector, options, record, console)
    rows = write_summary_files(record, arguments.forms, detector.class_names, detector.findings)
    if rows and "findings" in arguments.forms:
        console.print(prediction_table(rows))
    skipped = f", complete before: {report.skipped}" if report.skipped else ""
    console.print(f"Predicted: {report.predicted}{skipped}; in {arguments.output}. {NOTICE}", markup=False)
    problems = inputs.problems + report.problems
    if report.negatives:
        print(
            f"mrcnn: warning: {report.negatives} of {report.predicted} images look like negatives of the films that "
            "the model was trained on, black and white exchanged; what was found in them is not reliable: invert them",
            file=sys.stderr,
        )
    if report.alone:
        print(
            f"mrcnn: warning: {report.alone} of {report.predicted} inputs have no neighboring slices; {ALONE}",
            file=sys.stderr,
        )
    for problem in problems:
        print(f"mrcnn: {problem}", file=sys.stderr)
    if problems:
        print(f"mrcnn: inputs that could not be predicted: {len(problems)}", file=sys.stderr)
    return BAD_INPUT if problems else 0


def _spacing(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    from mrcnn.data.sample import SPACING_MM

    try:
        sides = [float(word) for word in parse_words("spacing_mm", value)]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in sides):
        raise InputError(
            f"--spacing_mm {value}: expected the size of a pixel in mm, as 0.1, or row,column, as 0.1,0.12"
        )
    return sides[0], sides[-1]


def _tile(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    least, most = TILE_SIDES
    if not (value.isdecimal() and value.isascii() and least <= int(value[:9]) <= most):
        raise InputError(f"--tile {value}: expected the side of a tile, {least} to {most} pixels")
    return int(value)


@click.command(
    "predict",
    cls=Command,
    work=_run,
    stopped=f"stopped; {AGAIN}",
    no_args_is_help=True,
    options_metavar="--output FOLDER [OPTIONS]",
)
@click.argument("model", type=PathText())
@click.argument("inputs", nargs=-1, required=True, type=PathText(), metavar="INPUT...")
@option(
    "--output",
    required=True,
    type=PathText(),
    metavar="FOLDER",
    help="folder of the predictions; the same command again continues an incomplete one",
)
@option(
    "--write",
    callback=word_list,
    metavar="FORM,...",
    help="forms of the predictions: coco, findings, mask, nifti, objects, dicom_seg, rtstruct, overlay, splash, and "
    "yolo, labelme, label_studio, cvat to correct them in an annotation tool; default "
    f"{','.join(DEFAULT_FORMATS)}, if the input supports them",
)
@option(
    "--confidence",
    callback=fraction,
    metavar="NUMBER",
    help="minimum score of an instance; default the threshold of the model",
)
@option(
    "--spacing_mm",
    callback=_spacing,
    metavar="MM",
    help="size of a pixel, as 0.1 or row,column as 0.1,0.12, in place of the size in the files",
)
@option(
    "--modalities",
    callback=word_list,
    metavar="NAME,...",
    help="for a model that does not record its modalities: flair,t1,t1ce,t2 in the order of the model",
)
@option(
    "--tile",
    callback=_tile,
    metavar="PIXELS",
    help="predict larger images in overlapping tiles of this side; by default in those of the model's training, or as "
    "a whole, resized to the input of the model",
)
@option("--task", default="any", metavar="NAME", help="the task of the model `last`; default any")
@switch(
    "--keep_patient",
    help="write the patient and study of the source into dicom_seg, for an archive; otherwise a pseudonym",
)
@switch("--overwrite", help="replace predictions of another model or with other options")
def command(
    model: str,
    inputs: tuple[str, ...],
    output: str,
    write: tuple[str, ...] | None,
    confidence: float | None,
    spacing_mm: tuple[float, float] | None,
    modalities: tuple[str, ...] | None,
    tile: int | None,
    task: str,
    keep_patient: bool,
    overwrite: bool,
) -> PredictArgs:
    """Find instances in images, volumes and videos with a trained model.

    MODEL is models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished run of the
    task; or a .keras file.

    INPUT is an image (PNG, JPEG, TIFF, BMP, DICOM), a video (MP4, AVI, MOV, MKV), a NIfTI volume, a folder of any of
    them, of DICOM slices or of a BraTS case, a pattern such as 'scans/*.png', or an http:// or https:// address.

    Also: python -m experiments.commands.predict ..., and
    mlflow run . -e predict -P model=MODEL -P input=INPUT -P output=FOLDER

    Every input gets a JSON file; docs/how-to/predict.md has the details. The exit status is 2 if an input could not be
    predicted; the others are predicted nevertheless. Research use only.
    """
    return PredictArgs(
        model=check_model_address(model),
        inputs=inputs,
        output=(standing_folder() / Path(output).expanduser()).resolve(),
        forms=DEFAULT_FORMATS if write is None else check_formats(list(write)),
        explicit_forms=write is not None,
        confidence=confidence,
        spacing_mm=spacing_mm,
        modalities=modalities,
        tile=tile,
        task=task,
        keep_patient=keep_patient,
        overwrite=overwrite,
    )


main = command.run

if __name__ == "__main__":
    sys.exit(main())
