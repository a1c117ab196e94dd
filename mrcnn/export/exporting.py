"""Check a model, convert it to float32 and its confidence threshold, and export it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrcnn.errors import InputError

if TYPE_CHECKING:
    from mrcnn.models import MaskRCNN

FORMS = {"saved_model": "", "onnx": ".onnx", "onnx_int8": "_int8.onnx"}
"""Export formats and the ends of their file names; a SavedModel is a folder."""
PACKAGES = {"onnx": ("onnx",), "onnx_int8": ("onnx", "onnxruntime")}
MIN_IMAGES = 8
"""Fewest calibration images."""
NOTICE = "Research use only: not a medical device."
EXPORTABLE = {"conventions": "paper", "equalise": "none"}
"""Preprocessing options of which `mrcnn.export.pixels.prepare` supports one value only."""
NOTES_FILE = Path("assets.extra", "mrcnn.json")
"""Path of the notes in a SavedModel; TensorFlow reserves this folder for exporters."""


def check_form(form: str, path: Path) -> None:
    """Check format and output path before loading a model.

    Raises:
        InputError: the format is unknown, its package is missing, or `path` cannot be written.
    """
    if form not in FORMS:
        raise InputError(f"--to {form}: expected {' or '.join(FORMS)}")
    for package in PACKAGES.get(form, ()):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"--to {form}: needs the package {package}; install it with pip install 'medmrcnn[export]'"
            )
    if path.exists():
        raise InputError(f"--output {path}: exists already; expected a new name")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: expected a folder that is there, {path.parent} is not")


def export_model(
    model: MaskRCNN,
    form: str,
    path: str | Path,
    *,
    confidence: float | None = None,
    calibration: Sequence[np.ndarray] = (),
) -> dict[str, str]:
    """Export `model` in a format that runs without this project; `mrcnn.export` defines inputs and outputs.

    The exported model computes in float32, whatever the training precision; `onnx_int8` computes convolutions and dense
    layers in 8-bit integers.

    Args:
        model: model to export.
        form: `saved_model`, `onnx` or `onnx_int8`.
        path: the new folder or file.
        confidence: minimum score of the exported model's detections; `config.score_threshold` if None or lower.
        calibration: for `onnx_int8` at least `MIN_IMAGES` images (H, W, C) as the model sees them in use, such as those
            of the training split.

    Returns:
        The notes in the exported file: `notice`, and as JSON `class_names`, `confidence`, and of `onnx_int8` the
        `agreement` with float32: `mask_iou`, see `mrcnn.export.onnx_int8.mask_agreement`, on how many `images`.
        Also `tile`, for a model that expects tiles of larger images, which the exported model does not cut.

    Raises:
        InputError: the format, path, confidence, model or calibration cannot be exported.
    """
    path = Path(path)
    check_form(form, path)
    config = model.config
    for option, expected in EXPORTABLE.items():
        if (value := getattr(config, option)) != expected:
            raise InputError(
                f"{option}={value}: cannot be exported, the exported model would find something else; expected a model "
                f"of {option}={expected}; this one runs with `mrcnn predict` and as a registered model"
            )
    if form == "onnx_int8" and len(calibration) < MIN_IMAGES:
        raise InputError(
            f"--to onnx_int8: {len(calibration)} calibration images; expected at least {MIN_IMAGES} like those of the "
            "training, with --calibration"
        )
    if confidence is not None and not 0 <= confidence <= 1:
        raise InputError(f"confidence={confidence}: expected a number from 0 to 1")
    confidence = max(config.score_threshold, confidence or 0.0)
    model = _to_float32(model, confidence)
    notes = {"notice": NOTICE, "class_names": json.dumps(config.class_names), "confidence": json.dumps(confidence)}
    if config.context_slices:
        notes["context_slices"] = json.dumps(config.context_slices)
    if config.tile is not None:
        notes["tile"] = json.dumps(config.tile)
    draft = path.with_name(f".{path.name}.being-written")
    try:
        notes = _write(model, form, draft, notes, calibration)
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
    return notes


def _write(
    model: MaskRCNN, form: str, path: Path, notes: dict[str, str], calibration: Sequence[np.ndarray]
) -> dict[str, str]:
    if form == "saved_model":
        from mrcnn.export.saved_model import write_saved_model

        write_saved_model(model, path)
        (path / NOTES_FILE).parent.mkdir()
        (path / NOTES_FILE).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
        return notes
    from mrcnn.export.onnx_file import write_onnx

    if form == "onnx":
        write_onnx(model, path, notes)
        return notes
    from mrcnn.export.onnx_int8 import write_int8

    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        write_onnx(model, source := Path(folder, "float32.onnx"), notes)
        return write_int8(source, path, notes, calibration)


def _to_float32(model: MaskRCNN, confidence: float) -> MaskRCNN:
    """Copy the weights to a float32 model with the score threshold `confidence`."""
    config = model.config.model_copy(update={"score_threshold": confidence})
    copy = type(model)(config, dtype="float32")
    copy.set_weights(model.get_weights())
    return copy
