"""What a person may write for a trained model, checked before anything heavy is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.config.resolve import Resolved
from experiments.preparation.datasets import standing_folder
from mrcnn.config import FILES
from mrcnn.errors import InputError
from trackers.runs.local_store import require_writable_store

KEPT = re.compile(r"last|[0-9a-f]{32}|(runs|models):/.+")


def check_model_address(model: str, asked: str | None = None) -> str:
    """A run or a registered model as it was written, a `.keras` file as its full path.

    Args:
        asked: how the option stands in a message; otherwise `model=…`.

    Raises:
        InputError: it cannot be one, the file is not there, or there is no store.
    """
    if KEPT.fullmatch(model):
        require_writable_store(reading=True)
        return model
    file = standing_folder() / Path(model).expanduser()
    if file.suffix != ".keras" or not file.is_file():
        raise InputError(
            f"{asked or f'model={model}'}: expected a .keras file that is there, a run's id, last, runs:/<id> or "
            "models:/<name>"
        )
    return str(file.resolve())


def with_absolute_weights(resolved: Resolved) -> Resolved:
    """A weight file as an absolute path, as seen from where the person stands.

    Raises:
        InputError: it does not exist.
    """
    train = resolved.config.train
    if not train.weights.endswith(FILES) or re.match(r"(runs|models):/", train.weights):
        return resolved
    path = standing_folder() / Path(train.weights).expanduser()
    if not path.is_file():
        raise InputError(f"--train.weights {train.weights}: expected a file, {path} does not exist")
    found = train.model_copy(update={"weights": str(path.resolve())})
    return replace(resolved, config=resolved.config.model_copy(update={"train": found}))


@dataclass(frozen=True)
class CompareArgs:
    """The command line, checked; either `modality` or `models` is given."""

    modality: str | None
    models: tuple[str, ...]
    promote: bool
    dry_run: bool
    output: Path | None
