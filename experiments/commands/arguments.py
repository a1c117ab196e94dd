"""Validate model addresses and weight files before heavy libraries are loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.config.resolve import Resolved
from experiments.config.schema import BY_PATIENT, DataOptions
from experiments.preparation.datasets import data_path, standing_folder
from mrcnn.config import WEIGHT_SUFFIXES
from mrcnn.errors import InputError
from trackers.runs.local_store import require_writable_store

TRACKED = re.compile(r"last|[0-9a-f]{32}|(runs|models):/.+")


def check_model_address(model: str, option: str | None = None) -> str:
    """Validate the address of a trained model; return the absolute path of a `.keras` file, or the address itself.

    Args:
        model: a `.keras` file, a run's id, `last`, `runs:/<id>` or `models:/<name>`.
        option: the option and its value in messages; default `model=<model>`.

    Raises:
        InputError: the address is invalid, the file does not exist, or there is no store.
    """
    if TRACKED.fullmatch(model):
        require_writable_store(reading=True)
        return model
    file = standing_folder() / Path(model).expanduser()
    if file.suffix != ".keras" or not file.is_file():
        raise InputError(
            f"{option or f'model={model}'}: expected a .keras file that is there, a run's id, last, runs:/<id> or "
            "models:/<name>"
        )
    return str(file.resolve())


def with_absolute_paths(resolved: Resolved) -> Resolved:
    """Make the paths of dataset, splits and weights absolute: the recorded configuration is valid in every folder.

    Raises:
        InputError: one of them does not exist.
    """
    data, train = resolved.config.data, resolved.config.train
    given = {"dataset": data.dataset, "splits": None if data.splits == BY_PATIENT else data.splits}
    data = data.model_copy(update={name: str(data_path(name, text)) for name, text in given.items() if text})
    if train.weights.endswith(WEIGHT_SUFFIXES) and not re.match(r"(runs|models):/", train.weights):
        path = standing_folder() / Path(train.weights).expanduser()
        if not path.is_file():
            raise InputError(f"--train.weights {train.weights}: expected a file, {path} does not exist")
        train = train.model_copy(update={"weights": str(path.resolve())})
    return replace(resolved, config=resolved.config.model_copy(update={"data": data, "train": train}))


@dataclass(frozen=True)
class CompareArgs:
    """Validated arguments of `mrcnn compare`; one of `modality` and `models` is set."""

    modality: str | None
    models: tuple[str, ...]
    promote: bool
    dry_run: bool
    output: Path | None


@dataclass(frozen=True)
class EvaluateArgs:
    """Validated arguments of `mrcnn evaluate`.

    Attributes:
        model: address of the model.
        data: the data set and how to read it.
        classes: (class of the data, class of the model).
        class_agnostic: count everything as of one class.
        subgroups: attributes of the images.
        task: task of the model `last`.
        output: folder of the report; None for the default.
        recalibrate: share of the patients that choose the threshold anew; None: the threshold of the model.
    """

    model: str
    data: DataOptions
    classes: tuple[tuple[str, str], ...] = ()
    class_agnostic: bool = False
    subgroups: tuple[str, ...] = ()
    task: str = "thyroid"
    output: Path | None = None
    recalibrate: float | None = None


@dataclass(frozen=True)
class SuggestArgs:
    """Validated arguments of `mrcnn suggest`."""

    model: str
    folder: str
    images: int
    form: str
    output: Path
    task: str
