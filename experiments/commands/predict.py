"""The command `mrcnn predict MODEL INPUT... --output FOLDER`, also `python -m experiments.commands.predict`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.commands.arguments import check_model_address
from experiments.commands.exit_status import BAD_INPUT, exit_status, quiet_libraries, silent_start
from experiments.config.overrides import parse_arguments, parse_value, parse_words
from experiments.prediction.inputs import (
    DEFAULT_FORMATS,
    Inputs,
    check_formats,
    find_inputs,
    unsupported_formats,
)
from experiments.preparation.datasets import standing_folder
from mrcnn.data.readers.brats_files import MODALITIES
from mrcnn.data.sample import SPACING_MM
from mrcnn.errors import InputError
from trackers.runs.disk import disk_problem

HELP = """\
Find instances in images, volumes and videos with a trained model.

usage: mrcnn predict MODEL INPUT... --output FOLDER [--KEY VALUE ...]
       python -m experiments.commands.predict ...                          the same
       mlflow run . -e predict -P model=MODEL -P input=INPUT -P output=FOLDER

  MODEL         models:/mrcnn-ultrasound@champion; a run, by its id or as runs:/<id>; last, the newest finished
                run of the task; or a .keras file
  INPUT         image (PNG, JPEG, TIFF, BMP, DICOM), video (MP4, AVI, MOV, MKV), NIfTI volume, folder of any of
                them, of DICOM slices or of a BraTS case, pattern such as 'scans/*.png', http:// or https:// address
  --output      folder of the predictions; the same command again goes on where the last one ended
  --write       what to write, with commas: coco, findings, mask, nifti, dicom_seg, overlay, splash; default
                {default}, as far as the input can carry it
  --confidence  least score of an instance; default the model's own working point
  --spacing_mm  size of a pixel, as 0.1 or row,column as 0.1,0.12, in place of what the files say
  --modalities  of a model that does not say which it was trained on: flair,t1,t1ce,t2 in its order
  --task        whose last run, thyroid
  --keep_patient  true: dicom_seg bears the patient and study of its source, by which an archive files it; otherwise a
                pseudonym
  --overwrite   true: replace predictions that another model or other options made

Every input gets a JSON file; docs/predict.md tells the rest. The exit status is 2 where an input could not be
predicted; the others are done nevertheless. Research use only.
"""
OPTIONS = ("output", "write", "confidence", "spacing_mm", "modalities", "task", "keep_patient", "overwrite")


@dataclass(frozen=True)
class PredictArgs:
    """The command line, checked. `asked` tells whether the forms were asked for or are the default."""

    model: str
    inputs: tuple[str, ...]
    output: Path
    forms: tuple[str, ...]
    asked: bool
    confidence: float | None
    spacing_mm: tuple[float, float] | None
    modalities: tuple[str, ...] | None
    task: str
    keep_patient: bool
    overwrite: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or {"--help", "-h"} & set(arguments):
        print(HELP.format(default=",".join(DEFAULT_FORMATS)), end="")
        return 0
    again = "the same command again goes on from here"
    return exit_status(lambda: _predict_or_refuse(parse_command(arguments), again), stopped=f"stopped; {again}")


def _predict_or_refuse(wanted: PredictArgs, again: str) -> int:
    try:
        return predict(wanted)
    except OSError as error:
        problem = disk_problem(error, [wanted.output]) or f"{error.filename or 'output'}: {error.strerror or error}"
        raise InputError(f"{problem}; what is complete is kept, {again}") from error


def parse_command(arguments: Sequence[str]) -> PredictArgs:
    """The command line, checked before anything heavy is loaded.

    Raises:
        InputError: a word or value that is not understood, a model file that is not there, nothing to predict.
    """
    words, options = _split(arguments)
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise InputError(f"--{unknown[0]}: no such option; expected {', '.join(f'--{name}' for name in OPTIONS)}")
    if len(words) < 2:
        raise InputError("expected a model and inputs, as in mrcnn predict model.keras image.png --output found")
    if "output" not in options:
        raise InputError("--output: missing; expected a folder")
    model, *inputs = words
    model = check_model_address(model)
    return PredictArgs(
        model=model,
        inputs=tuple(inputs),
        output=(standing_folder() / Path(options["output"]).expanduser()).resolve(),
        forms=check_formats(parse_words("write", options["write"]) if "write" in options else DEFAULT_FORMATS),
        asked="write" in options,
        confidence=_confidence(options["confidence"]) if "confidence" in options else None,
        spacing_mm=_spacing(options["spacing_mm"]) if "spacing_mm" in options else None,
        modalities=_modalities(options["modalities"]) if "modalities" in options else None,
        task=options.get("task", "thyroid"),
        keep_patient=_flag("keep_patient", options),
        overwrite=_flag("overwrite", options),
    )


def predict(wanted: PredictArgs) -> int:
    """Do the work; returns the exit status.

    Raises:
        InputError: what keeps all of it from being done.
    """
    from rich.console import Console

    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:
        inputs = _inputs(wanted, Path(scratch), console)
        quiet_libraries()
        with silent_start():
            import mrcnn.models  # noqa: F401
            import trackers.packaging.tracked_model  # noqa: F401
            from experiments.prediction.detector import open_detector
        detector = open_detector(wanted.model, task=wanted.task, folder=Path(scratch) / "model")
        return _predict(wanted, inputs, detector, console)


def _inputs(wanted: PredictArgs, scratch: Path, console: Any) -> Inputs:
    from experiments.prediction.downloads import download

    def fetch(address: str) -> Path:
        return download(address, Path(tempfile.mkdtemp(dir=scratch)))

    inputs = find_inputs(wanted.inputs, base=standing_folder(), output=wanted.output, fetch=fetch)
    if inputs.skipped:
        console.print(f"note: skipped: {inputs.skipped_line()}", markup=False, soft_wrap=True)
    if wanted.asked and inputs.items:
        for line in unsupported_formats(wanted.forms, inputs.items):
            console.print(f"note: {line}", markup=False, soft_wrap=True)
    if any(item.kind == "video" for item in inputs.items):
        from mrcnn.data.io.video import import_av

        import_av()  # told before the model loads
    return inputs


def _predict(wanted: PredictArgs, inputs: Inputs, detector: Any, console: Any) -> int:
    from dataclasses import replace
    from importlib.metadata import version

    import numpy as np

    from experiments.evaluation.tables import prediction_table
    from experiments.findings import FINDINGS
    from experiments.prediction.progress_record import ProgressRecord
    from experiments.prediction.results import write_summary_files
    from experiments.prediction.run import Options, predict_items
    from mrcnn.detections import Detections
    from trackers.packaging.served import NOTICE

    if wanted.modalities is not None:
        if not detector.volumes or len(wanted.modalities) != detector.channels:
            raise InputError(
                f"--modalities {','.join(wanted.modalities)}: the model takes {detector.channels} channels"
                + ("" if detector.volumes else ", and was not trained on volumes of several modalities")
            )
        if detector.modalities not in (None, wanted.modalities):
            raise InputError(
                f"--modalities {','.join(wanted.modalities)}: the model was trained on {','.join(detector.modalities)}"
            )
        detector = replace(detector, modalities=wanted.modalities)
    # Asked of an empty image, so that classes which do not fit the findings are told before the work.
    FINDINGS[detector.findings](np.zeros((1, 1, 1), np.uint8), Detections.none(1, 1), detector.class_names, None, None)
    confidence = detector.confidence if wanted.confidence is None else wanted.confidence
    about = {
        "model": detector.digest,
        "classes": list(detector.class_names),
        "confidence": confidence,
        "spacing_mm": None if wanted.spacing_mm is None else list(wanted.spacing_mm),
        "modalities": None if detector.modalities is None else list(detector.modalities),
        "findings": detector.findings,
        "medmrcnn": version("medmrcnn"),
        "notice": NOTICE,
    }
    if wanted.keep_patient:  # among the options only then, so that folders from before can be gone on with
        about["keep_patient"] = True
    record = ProgressRecord(wanted.output, about, overwrite=wanted.overwrite)
    console.print(
        f"Classes {', '.join(detector.class_names)}; instances of a score of at least {confidence:g}; "
        f"inputs: {len(inputs.items)}",
        markup=False,
        soft_wrap=True,
    )
    options = Options(confidence, wanted.forms, wanted.spacing_mm, wanted.keep_patient)
    report = predict_items(inputs.items, detector, options, record, console)
    rows = write_summary_files(record, wanted.forms, detector.class_names, detector.findings)
    if rows and "findings" in wanted.forms:
        console.print(prediction_table(rows))
    skipped = f", complete before: {report.skipped}" if report.skipped else ""
    console.print(f"Predicted: {report.predicted}{skipped}; in {wanted.output}. {NOTICE}", markup=False, soft_wrap=True)
    problems = inputs.problems + report.problems
    if report.negatives:
        print(
            f"mrcnn: warning: {report.negatives} of {report.predicted} images look like negatives of the films that "
            "the model was trained on, black and white exchanged; what was found in them is not reliable: invert them",
            file=sys.stderr,
        )
    for problem in problems:
        print(f"mrcnn: {problem}", file=sys.stderr)
    if problems:
        print(f"mrcnn: inputs that could not be predicted: {len(problems)}", file=sys.stderr)
    return BAD_INPUT if problems else 0


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words that stand by themselves, and options, which may stand before, among or after them."""
    words, options = [], []
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("--"):
            words.append(word)
            continue
        options.append(word)
        if "=" not in word and (value := next(rest, None)) is not None:
            options.append(value)
    return words, parse_arguments(_with_underscores(options))


def _with_underscores(options: Sequence[str]) -> list[str]:
    """`--spacing-mm` is `--spacing_mm`: people type either."""
    made = []
    for word in options:
        name, equals, value = word.partition("=")
        made.append(name.replace("-", "_").replace("__", "--", 1) + equals + value if word.startswith("--") else word)
    return made


def _flag(name: str, options: Mapping[str, str]) -> bool:
    value = parse_value(name, options.get(name, "false"))
    if not isinstance(value, bool):
        raise InputError(f"--{name} {options[name]}: expected true or false")
    return value


def _confidence(text: str) -> float:
    value = parse_value("confidence", text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"--confidence {text}: expected a number from 0 to 1")
    return float(value)


def _spacing(text: str) -> tuple[float, float]:
    try:
        sides = [float(word) for word in parse_words("spacing_mm", text)]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(SPACING_MM[0] <= side <= SPACING_MM[1] for side in sides):
        raise InputError(f"--spacing_mm {text}: expected the size of a pixel in mm, as 0.1, or row,column, as 0.1,0.12")
    return sides[0], sides[-1]


def _modalities(text: str) -> tuple[str, ...]:
    given = tuple(parse_words("modalities", text))
    if not given or len(set(given)) != len(given) or not set(given) <= set(MODALITIES):
        raise InputError(f"--modalities {text}: expected some of {', '.join(MODALITIES)}, each once")
    return given


if __name__ == "__main__":
    sys.exit(main())
