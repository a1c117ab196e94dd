"""Load a trained Mask R-CNN for a comparison, and check that it was trained on the same training split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow.models import get_model_info
from rich.console import Console

from experiments.training.training_data import Data
from mrcnn.errors import InputError
from mrcnn.models import MaskRCNN, load
from trackers.checkpoints.initial_weights import run_of
from trackers.packaging.tracked_model import load_tracked_model
from trackers.runs.reader import read_run
from trackers.runs.writer import LONGEST_DATASET_DIGEST


@dataclass(frozen=True)
class Given:
    """A trained model, and the digest of its training split from its run; empty if it is unknown."""

    model: MaskRCNN
    trained_on: str


def given_mask_rcnn(spec: str, task: str, folder: Path) -> Given:
    """Load the model that `spec` names.

    Raises:
        InputError: it does not exist, or is no Mask R-CNN.
    """
    model = load(load_tracked_model(spec, task=task, folder=folder).file)
    run_id = run_of(spec, task=task, option="mask-rcnn")
    if run_id is None and spec.startswith("models:/"):
        run_id = get_model_info(spec).run_id
    elif run_id is None and spec.startswith("runs:/"):
        run_id = spec.split("/")[1]
    return Given(model, read_run(run_id).digest("train") if run_id else "")


def check_same_training(spec: str, given: Given, data: Data, console: Console) -> None:
    """Warn if the training data of the model are unknown.

    Raises:
        InputError: it has other classes, or was trained on another training split, which may contain test patients.
    """
    names, expected = given.model.config.class_names, data.splits["train"].class_names
    if names != expected:
        raise InputError(f"--mask-rcnn {spec}: finds {', '.join(names)}; expected {', '.join(expected)}, as the data")
    if not given.trained_on:
        console.print(
            f"warning: --mask-rcnn {spec}: its training data are unknown; if they contain patients of the "
            f"{data.reported} split, its scores are invalid",
            style="yellow",
        )
    elif given.trained_on != data.splits["train"].digest[:LONGEST_DATASET_DIGEST]:
        raise InputError(
            f"--mask-rcnn {spec}: was trained on other images (digest {given.trained_on[:12]}); expected the training "
            f"split at hand ({data.splits['train'].digest[:12]}): the same data, seed and split as `mrcnn train` had"
        )
