"""The last and the best model of a training, on disk, whole at every moment."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trackers.checkpoints.checkpoint_store import to_disk
from trackers.runs.serialization import json_text

if TYPE_CHECKING:
    import keras

LAST = "last.keras"
BEST = "best.keras"
INDEX = "checkpoints.json"
BEING_WRITTEN = "being-written"


class Checkpoints:
    """`last.keras`, `best.keras` and `checkpoints.json` in `folder`; an earlier training's are overwritten.

    Each is written into the folder `being-written` beside them, then renamed, so a full disk or a killed process leaves
    the old one as it was, and what it left half written has no checkpoint's place. An epoch without the metric, or with
    one that is not a number, is never the best.

    Args:
        folder: made if it is not there.
        metric: name in the metrics given to `save`, such as `val/mask_ap50`.
        higher_is_better: False for a loss.
    """

    def __init__(self, folder: Path | str, *, metric: str, higher_is_better: bool = True) -> None:
        self.folder = Path(folder)
        self.metric = metric
        self.higher_is_better = higher_is_better
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / BEING_WRITTEN, ignore_errors=True)

    @property
    def best_path(self) -> Path | None:
        """The best model of this training; None before there was one."""
        return None if self.best_epoch is None else self.folder / BEST

    @property
    def last_path(self) -> Path:
        return self.folder / LAST

    def kept_beside(self) -> dict[str, Path]:
        """By name the file that goes on with a training's state: the best, or the last where there was no best."""
        path = self.best_path or self.last_path
        return {path.name: path} if path.exists() else {}

    def go_on(self, folder: Path, best_epoch: int | None, best_value: float | None) -> None:
        """From what `kept_beside` named, copied to `folder`, and the best as it was known then."""
        self.best_epoch, self.best_value = best_epoch, best_value
        draft = self.folder / BEING_WRITTEN
        draft.mkdir(exist_ok=True)
        try:
            for name in (LAST, BEST):
                if (folder / name).exists():
                    shutil.copyfile(folder / name, draft / name)
                    to_disk(draft / name)
                    os.replace(draft / name, self.folder / name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def save(self, model: keras.Model, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keeps `model` as the last and, where its metric is strictly better than before, as the best.

        Raises:
            OSError: the disk is full or refuses; the files of the epoch before are still whole.
        """
        draft = self.folder / BEING_WRITTEN
        draft.mkdir(exist_ok=True)
        try:
            model.save(draft / LAST)
            to_disk(draft / LAST)
            value = metrics.get(self.metric)
            if self._better(value):
                shutil.copyfile(draft / LAST, draft / BEST)
                to_disk(draft / BEST)
                os.replace(draft / BEST, self.folder / BEST)
                self.best_value, self.best_epoch = float(value), epoch
            os.replace(draft / LAST, self.folder / LAST)
            (draft / INDEX).write_text(self._index(epoch, metrics), encoding="utf-8")
            os.replace(draft / INDEX, self.folder / INDEX)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _better(self, value: float | None) -> bool:
        if value is None or math.isnan(value):
            return False
        if self.best_value is None:
            return True
        return value > self.best_value if self.higher_is_better else value < self.best_value

    def _index(self, epoch: int, metrics: Mapping[str, float]) -> str:
        best = None if self.best_epoch is None else {"epoch": self.best_epoch, "value": self.best_value, "file": BEST}
        last = {"epoch": epoch, "metrics": dict(metrics), "file": LAST}
        return json_text({"metric": self.metric, "higher_is_better": self.higher_is_better, "best": best, "last": last})
