"""What `train.weights` may say, checked and made absolute before anything heavy is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from experiments.datasets import standing_folder
from experiments.resolve import Resolved
from mrcnn.errors import InputError
from mrcnn.weight_names import FILES


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
