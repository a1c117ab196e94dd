"""Train, evaluate, search and compare from Python, as the commands of the same names do."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

if TYPE_CHECKING:
    from experiments.external.evaluation import Evaluation
    from experiments.prediction.detector import Detector
    from mrcnn.detections import Detections

PathLike = str | os.PathLike
REPORT = "report.html"


@dataclass(frozen=True)
class Prediction:
    """The instances in one image.

    Attributes:
        source: path of the image; None for an array.
        image: (H, W, C) pixels.
        detections: boxes, scores, classes and masks, best score first, at the threshold.
        class_names: names of the class ids from 1.
    """

    source: Path | None
    image: np.ndarray
    detections: Detections
    class_names: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return width, height and instances for JSON, as a served model does: boxes [x, y, w, h], COCO run lengths."""
        from trackers.packaging.served import as_dict

        height, width = self.image.shape[:2]
        return as_dict(self.detections, height, width, self.class_names)

    def overlay(self) -> np.ndarray:
        """Draw the instances on the image, which is enlarged if it is small: RGB, uint8."""
        from mrcnn.inference.drawing import overlay

        found = self.detections
        return overlay(self.image, found.instances, found.class_ids, self.class_names, scores=found.scores)


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        address: by which it was opened: a run, a version in the registry, or a .keras file.
        detector: the networks with their threshold and classes.
    """

    address: str
    detector: Detector

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class ids from 1."""
        return self.detector.class_names

    @property
    def confidence(self) -> float:
        """The threshold that was chosen on validation images."""
        return self.detector.confidence

    def predict(
        self, images: PathLike | np.ndarray | Sequence[PathLike | np.ndarray], *, confidence: float | None = None
    ) -> list[Prediction]:
        """Find the instances in images. Volumes, videos and files of results are the matter of `mrcnn predict`.

        A model that was trained with `data.context_slices` sees each image as its own neighbors, with a warning.

        Args:
            images: an image file, a folder of them, an array (H, W) or (H, W, C), or a list of these.
            confidence: lowest score of an instance; None: the threshold of the model.

        Raises:
            InputError: a file is missing or damaged, or a folder has no image.
        """
        from experiments.prediction.detector import ALONE
        from mrcnn.data.io.images import read_image
        from mrcnn.data.readers.image_files import images_in

        given = [images] if isinstance(images, str | os.PathLike | np.ndarray) else images
        least = self.confidence if confidence is None else confidence
        if self.detector.context_slices:
            warnings.warn(f"{self.address}: {ALONE}", stacklevel=2)
        items: list[Path | np.ndarray] = []
        for each in given:
            if isinstance(each, np.ndarray):
                items.append(each if each.ndim == 3 else each[..., None])
            else:
                path = Path(each).expanduser()
                items += images_in(path) if path.is_dir() else [path]
        predictions, size = [], self.detector.batch_size
        for start in range(0, len(items), size):
            part = items[start : start + size]
            arrays = [read_image(each) if isinstance(each, Path) else each for each in part]
            results = self.detector.find([self.detector.with_own_neighbors(each) for each in arrays])
            for item, array, found in zip(part, arrays, results, strict=True):
                source = item if isinstance(item, Path) else None
                predictions.append(Prediction(source, array, found.above(least), self.class_names))
        return predictions


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of a training or of a sweep.

    Attributes:
        id: of the run in MLflow.
    """

    id: str

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each metric, such as `test/dice`; `summary/` has the main ones."""
        from trackers.runs.reader import read_run

        return dict(read_run(self.id).metrics)

    @cached_property
    def report(self) -> Path:
        """Path of the page `report.html`, downloaded if the run is on a server."""
        from mlflow.artifacts import download_artifacts

        return Path(download_artifacts(run_id=self.id, artifact_path=REPORT))

    @cached_property
    def model(self) -> Model:
        """The model of the best epoch."""
        return load(self.id)


@dataclass(frozen=True)
class ComparedModels:
    """The results of a comparison.

    Attributes:
        report: path of the page `comparison.html`.
        facts: all numbers, as in `comparison.json`.
    """

    report: Path
    facts: Mapping[str, Any]


def train(
    data: PathLike | None = None,
    *,
    task: PathLike | None = None,
    name: str | None = None,
    resume: str | None = None,
    **options: Any,
) -> TrainedRun:
    """Train, evaluate, track and register a Mask R-CNN; see `mrcnn train`.

    Args:
        data: folder of images with their annotations, or the annotation file; None: synthetic images.
        task: a task of the project, such as `thyroid`, or a task file; None: `instances`, or `thyroid` without data.
        name: name of the run.
        resume: `auto` or the id of an interrupted run.
        options: options of a task by their names in `mrcnn train --help all`, such as `epochs=20`, `image_size=384`
            or `budget="30m"`. A section is part of a name with a dot: `**{"augment.scale": 0.2}`.

    Raises:
        InputError: an option or the data are invalid.

    Example:
        >>> import experiments
        >>> run = experiments.train("my-images", epochs=20, name="first")  # doctest: +SKIP
        >>> run.metrics["test/dice"], run.report  # doctest: +SKIP
        >>> run.model.predict("new.png")[0].detections.scores  # doctest: +SKIP
    """
    from experiments.commands import train as command
    from experiments.commands.arguments import with_absolute_paths

    _prepare()
    words = _words({"dataset": data, "task": task, "name": name, "resume": resume}, options)
    resolved, resume = command.command.parse(words)
    return TrainedRun(command.training_job(with_absolute_paths(resolved), resume)())


def evaluate(
    model: PathLike | Model | TrainedRun,
    data: PathLike,
    *,
    mapping: Mapping[str, str | Sequence[str]] | None = None,
    class_agnostic: bool = False,
    subgroups: Sequence[str] = (),
    recalibrate: float | None = None,
    task: str = "thyroid",
    output: PathLike | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a trained model on a data set that it was not trained on; see docs/how-to/evaluate.md.

    Args:
        model: `models:/<name>@<alias>`, `models:/<name>/<version>`, a run, `last`, a .keras file, or
            a result of `train`.
        data: folder of images with their annotations, or the annotation file.
        mapping: class of the data → class of the model, or several.
        class_agnostic: count all instances and all detections as of one class.
        subgroups: columns of a CSV file beside the data, or fields of the images in a COCO file.
        recalibrate: share of the patients that choose the threshold anew; the model with it becomes a new version.
        task: task of the model `last`.
        output: folder of the report; None for `evaluate-<name of the data set>`.
        options: fields of the section `data` of a task file, such as `reader="masks"`.

    Raises:
        InputError: model, data or an option is invalid.

    Example:
        >>> import experiments
        >>> found = experiments.evaluate("models:/mrcnn-ultrasound@champion", "clinic-b")  # doctest: +SKIP
        >>> found.scores["dice"], found.intervals["dice_lo"]  # doctest: +SKIP
        (0.71, 0.64)
    """
    from experiments.commands.arguments import EvaluateArgs, check_model_address
    from experiments.config.resolve import data_options

    pairs = [
        (one, other)
        for one, others in (mapping or {}).items()
        for other in ([others] if isinstance(others, str) else others)
    ]
    args = EvaluateArgs(
        check_model_address(_address(model)),
        data_options({}, dataset=str(data), **options),
        tuple(pairs),
        class_agnostic,
        tuple(subgroups),
        task,
        None if output is None else Path(output),
        recalibrate,
    )
    from experiments.external.evaluation import evaluate_external

    return evaluate_external(args)


def sweep(data: PathLike | None = None, *, task: PathLike | None = None, **options: Any) -> TrainedRun:
    """Search the settings of a task with many trainings, and register the best model; see `mrcnn sweep`.

    Args:
        data: as for `train`.
        task: as for `train`.
        options: options of the search, such as `trials=20`, and of a task, which apply to every trial.

    Returns:
        The run of the sweep, with the best model.

    Raises:
        InputError: an option or the data are invalid.
    """
    _prepare()
    # By name, because sweeps stand above experiments and import them.
    arguments = import_module("sweeps.command").parse_command(_words({"dataset": data, "task": task}, options))
    return TrainedRun(import_module("sweeps.sweep").sweep(arguments))


def compare(
    *models: PathLike | Model | TrainedRun,
    modality: str | None = None,
    promote: bool = False,
    output: PathLike | None = None,
) -> ComparedModels:
    """Compare trained models on the same test images; see docs/how-to/compare.md.

    Args:
        models: runs or versions in the registry; the others are compared with the first.
        modality: compare the registered models of a modality instead.
        promote: move the aliases of champions to the best versions.
        output: folder of the page; None for `compare-<modality>`.

    Raises:
        InputError: fewer than two models, or they share no test image.
    """
    from experiments.commands.compare import command

    _prepare()
    given = {"models": [_address(each) for each in models] or None, "modality": modality, "output": output}
    arguments = command.parse(_words(given, {"promote": promote}))
    from experiments.comparison.job import NUMBERS, PAGE
    from experiments.comparison.job import compare as run_comparison

    folder = run_comparison(arguments)
    return ComparedModels(folder / PAGE, json.loads((folder / NUMBERS).read_text(encoding="utf-8")))


def load(model: PathLike, *, task: str = "thyroid") -> Model:
    """Load a trained model for prediction.

    Args:
        model: `models:/<name>@<alias>`, `models:/<name>/<version>`, a run, `last`, or a .keras file.
        task: task of the model `last`.

    Raises:
        InputError: the model does not exist.
    """
    from experiments.commands.arguments import check_model_address
    from experiments.prediction.detector import open_detector

    address = check_model_address(str(model))
    with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
        return Model(address, open_detector(address, task=task, folder=Path(folder)))


def _prepare() -> None:
    """Check that the store can be written, before any work."""
    from trackers.runs.local_store import require_writable_store

    require_writable_store()


def _address(model: PathLike | Model | TrainedRun) -> str:
    if isinstance(model, TrainedRun):
        return model.id
    return model.address if isinstance(model, Model) else str(model)


def _words(*options: Mapping[str, Any]) -> list[str]:
    """Convert options to those of a command line; None in the first mapping is left out."""
    first, *others = options
    given = {name: value for name, value in first.items() if value is not None}
    for each in others:
        given |= each
    return [f"--{name}={_text(value)}" for name, value in given.items()]


def _text(value: Any) -> str:
    """Write a value as an option: text as it is, anything else as YAML on one line."""
    if isinstance(value, str | os.PathLike):
        return str(value)
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("\n").removesuffix("\n...")
