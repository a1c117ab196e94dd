"""What a person may write for a trained model, checked before anything heavy is loaded."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.datasets import standing_folder
from mrcnn.errors import InputError
from trackers.local_store import require_writable_store

KEPT = re.compile(r"last|[0-9a-f]{32}|(runs|models):/.+")


def checked_model(model: str, asked: str | None = None) -> str:
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
