"""A model checked, brought to float32 and its working point, and written in the form that was asked for."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mrcnn.errors import InputError

if TYPE_CHECKING:
    from mrcnn.models import MaskRCNN

FORMS = {"saved_model": "", "onnx": ".onnx"}
"""Forms of export, and how the names of their files end; a SavedModel is a folder."""
NOTICE = "Research use only: not a medical device."
EXPORTABLE = {"conventions": "paper", "equalise": "none"}
"""Options of the preprocessing of which `mrcnn.export.pixels.prepare` knows one value only."""
NOTES_FILE = Path("assets.extra", "mrcnn.json")
"""Where in a SavedModel the notes are; TensorFlow leaves that folder to whoever exports."""


def check_form(form: str, path: Path) -> None:
    """Raises:
    InputError: an unknown form, a package that it needs is missing, or `path` cannot be written. Loads nothing.
    """
    if form not in FORMS:
        raise InputError(f"--to {form}: expected {' or '.join(FORMS)}")
    if form == "onnx" and importlib.util.find_spec("onnx") is None:
        raise InputError("--to onnx: needs the package onnx; install it with pip install 'medmrcnn[export]'")
    if path.exists():
        raise InputError(f"--output {path}: exists already; expected a new name")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: expected a folder that is there, {path.parent} is not")


def export_model(model: MaskRCNN, form: str, path: str | Path, *, confidence: float | None = None) -> dict[str, str]:
    """Writes `model` so that it runs without this project; what it takes and returns stands in `mrcnn.export`.

    Whatever precision it was trained in, the exported model computes in float32.

    Args:
        form: `saved_model` or `onnx`.
        path: of the new folder or file.
        confidence: least score of what the exported model reports; `config.score_threshold` where None or lower.

    Returns:
        The notes that were written with it, texts by name: `notice`, `class_names` and `confidence` as JSON.

    Raises:
        InputError: a form, path, confidence or model that cannot be exported.
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
    if confidence is not None and not 0 <= confidence <= 1:
        raise InputError(f"confidence={confidence}: expected a number from 0 to 1")
    confidence = max(config.score_threshold, confidence or 0.0)
    model = _plain(model, confidence)
    notes = {"notice": NOTICE, "class_names": json.dumps(config.class_names), "confidence": json.dumps(confidence)}
    draft = path.with_name(f".{path.name}.being-written")
    try:
        _write(model, form, draft, notes)
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)
    return notes


def _write(model: MaskRCNN, form: str, path: Path, notes: dict[str, str]) -> None:
    if form == "onnx":
        from mrcnn.export.onnx_file import write_onnx

        write_onnx(model, path, notes)
        return
    from mrcnn.export.saved_model import write_saved_model

    write_saved_model(model, path)
    (path / NOTES_FILE).parent.mkdir()
    (path / NOTES_FILE).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def _plain(model: MaskRCNN, confidence: float) -> MaskRCNN:
    """The same weights in a model of float32 that reports what reaches `confidence`."""
    config = model.config.model_copy(update={"score_threshold": confidence})
    plain = type(model)(config, dtype="float32")
    plain.set_weights(model.get_weights())
    return plain
