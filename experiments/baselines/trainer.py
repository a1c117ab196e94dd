"""Train, evaluate, track and register the baselines of a task, and compare them: `train_baselines` is the whole job."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from experiments.baselines.classification import (
    EPOCH_METRIC,
    METRIC,
    ClassifierResult,
    ValidateClassifier,
    evaluate_classifier_on_test,
    even_chances,
    truth_of,
)
from experiments.baselines.comparison import Column, comparison_markdown, comparison_table, image_scores, rows
from experiments.baselines.mask_rcnn_run import check_same_training, given_mask_rcnn
from experiments.baselines.networks import classifier_config, recorded, resunet_config, starting_from
from experiments.config.resolve import Resolved, resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.artifacts import csv_text
from experiments.evaluation.evaluate_on_test import Result, evaluate_on_test
from experiments.evaluation.registration import package_and_register, register_model
from experiments.evaluation.report import log_report
from experiments.terminal import Terminal, phase, print_addresses
from experiments.training.planner import make_plan, shared_settings, with_shared_settings
from experiments.training.resume import task_run
from experiments.training.trainer import Trainer
from experiments.training.training_data import Data, read_data, record_data, split_title
from mrcnn.config import ClassifierConfig, InputConfig
from mrcnn.data.transforms.dense_encoding import make_dense_batch, make_label_batch
from mrcnn.models import Classifier, MaskRCNN, ResUNet
from mrcnn.models.baselines.classifier import Cascade
from mrcnn.models.pretrained.initial_weights import load_imagenet
from trackers.packaging.packaged import log_packaged_classifier
from trackers.runs.run import Parent, Run


def train_baselines(resolved: Resolved, models: Sequence[str], mask_rcnn: str | None) -> None:
    """Train, evaluate, track and register the baselines `models` of a checked task, and compare them.

    A trained `mask_rcnn`, if one is given, is evaluated on the same images, and put behind the classifier.

    Raises:
        InputError: the data are invalid, or do not match the configuration or the Mask R-CNN.
        Diverged: a loss or a weight is not finite.
    """
    config = resolved.config
    console = Terminal()
    profile = {"profile": resolved.profile} if resolved.profile else {}
    with (
        task_run(config, run_name=f"{config.task} baselines", tags={"model": "baselines", **profile}) as parent,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        console.print(f"Task {config.task}, {config.modality}: {', '.join(models)}; run {parent.id}")
        given = None
        if mask_rcnn:
            with phase(console, "Loading the Mask R-CNN"):
                given = given_mask_rcnn(mask_rcnn, config.task, Path(folder, "given"))
        data = read_data(config, parent, console)
        with phase(console, "Planning"):
            plan = make_plan(config, data.splits["train"], validation_images=len(data.splits["val"]))
        config = plan.config.model_copy(update={"model": config.model})
        config = with_shared_settings(config, shared_settings(plan.config))
        if mask_rcnn and given is not None:
            check_same_training(mask_rcnn, given, data, console)
        labels = classifier_config(config, data.splits["train"], data.splits.values())
        comparison = _Comparison(config, data, labels, parent, console, Path(folder))
        segmenters: dict[str, MaskRCNN | ResUNet] = {}
        if given is not None:
            segmenters["mask_rcnn"] = given.model
            comparison.evaluate("mask_rcnn", given.model, {"mask_rcnn": mask_rcnn})
        if "resunet" in models:
            segmenters["resunet"] = comparison.resunet()
        classified = comparison.classifier() if "classifier" in models else None
        if classified is not None and "cascade" in models:
            for name, segmenter in segmenters.items():
                cascade = Cascade(classified.model, segmenter, classified.threshold)
                facts = {"segmenter": name, "threshold": classified.threshold}
                comparison.evaluate(f"cascade_{name}", cascade, facts)
        _log_comparison(comparison.columns, data, parent, console)
    print_addresses(console, parent)


class ResUNetTrainer(Trainer):
    """Train, evaluate and register a ResUNet, without test-time augmentation."""

    make_batch = staticmethod(make_dense_batch)

    def build(self) -> None:
        network = resunet_config(self.config, self.data.splits["train"])
        _record(self.run, self.config, network)
        self.model = ResUNet(network, seed=self.config.seed, dtype=self.config.train.precision)
        _show(self.model, self.console, f"widths {' '.join(map(str, network.widths))}, loss {network.loss}")

    def evaluate(self) -> None:
        self.result = evaluate_on_test(self.model, self.config, self.data, self.run, self.console, step=self.epochs + 1)

    def register(self) -> None:
        self.model.save(file := self.folder / "model.keras")
        with ExitStack() as at_end:
            at_end.callback(log_report, self.run)
            package_and_register([file], self.result, self.config, self.data, self.run, self.console, family="unet")


class ClassifierTrainer(Trainer):
    """Train, evaluate and register a classifier; `network` is its configuration, set before `build`."""

    make_batch = staticmethod(make_label_batch)
    validate = ValidateClassifier
    metric, higher_is_better = EPOCH_METRIC, False
    network: ClassifierConfig

    def build(self) -> None:
        config, network = self.config, self.network
        _record(self.run, config, network)
        self.model = Classifier(network, seed=config.seed, dtype=config.train.precision)
        source = "labels of the images" if network.by_label else "whether there is an instance"
        _show(self.model, self.console, f"{network.backbone}; {' or '.join(network.class_names)}, by {source}")
        if config.train.weights == "imagenet":
            report = load_imagenet(self.model)
            self.run.text(report.text(every_layer=True), "weights.txt")
            self.console.print(report.text(), markup=False)

    def sampling_weights(self) -> np.ndarray | None:
        balanced = self.config.baseline.classifier_balance
        return even_chances(self.data.splits["train"], self.network) if balanced else None

    def evaluate(self) -> None:
        self.result = evaluate_classifier_on_test(
            self.model, self.config, self.data, self.run, self.console, step=self.epochs + 1
        )

    def register(self) -> None:
        result, reported = self.result, self.data.splits[self.data.reported]
        result.model.save(file := self.folder / "model.keras")
        log_report(self.run)
        uri = log_packaged_classifier(
            self.run, file, threshold=result.threshold,
            class_names=(self.network.class_names[0], self.network.class_names[1]),
            config=self.config.model_dump(mode="json"), sample_image=reported.image(0, self.network.context_slices),
        )  # fmt: skip
        register_model(uri, self.config, self.run, self.console, family="classifier", metric=METRIC)


class _Comparison:
    """Models of one task, each with a run of its own below `parent` and a column of the table."""

    def __init__(
        self, config: TaskConfig, data: Data, labels: ClassifierConfig, parent: Run, console: Console, folder: Path
    ) -> None:
        # All predict without test-time flips: the flips of one model would not compare it with the others.
        evaluate = config.evaluate.model_copy(update={"tta": False})
        self._config = config.model_copy(update={"evaluate": evaluate})
        self._data, self._labels = data, labels
        self._parent, self._console, self._folder = Parent(parent.id, parent.experiment_id), console, folder
        self.columns: dict[str, Column] = {}

    @contextmanager
    def _run(self, name: str) -> Iterator[tuple[Run, Path]]:
        """Start a run for the model `name`, and make a folder for its files."""
        config = self._config
        self._console.print(f"\n{name}", style="bold")
        # For each model, so that it does not depend on the others.
        keras.utils.set_random_seed(config.seed)
        folder = self._folder / name
        folder.mkdir()
        with task_run(config, run_name=name, tags={"model": name}, parent=self._parent) as run:
            record_data(self._data, config, run)
            yield run, folder

    def resunet(self) -> ResUNet:
        """Train, evaluate and register the ResUNet."""
        with self._run("resunet") as (run, folder):
            trainer = ResUNetTrainer(starting_from(self._config, "none"), self._data, run, self._console, folder)
            trainer.build()
            trainer.fit()
            trainer.evaluate()
            self._add("resunet", trainer.result, run, trainer.epochs + 1)
            trainer.register()
        return trainer.model

    def classifier(self) -> ClassifierResult:
        """Train, evaluate and register the classifier."""
        config = starting_from(self._config, self._config.baseline.classifier_weights)
        with self._run("classifier") as (run, folder):
            trainer = ClassifierTrainer(config, self._data, run, self._console, folder)
            trainer.network = self._labels
            trainer.build()
            trainer.fit()
            trainer.evaluate()
            self.columns["classifier"] = Column(trainer.result.scores, trainer.result.intervals)
            self._console.print(comparison_table({"classifier": self.columns["classifier"]}))
            trainer.register()
        return trainer.result

    def evaluate(self, name: str, model: MaskRCNN | Cascade, facts: Mapping[str, object]) -> None:
        """Evaluate a model that needs no training."""
        with self._run(name) as (run, _):
            run.params(facts)
            run.text(resolved_yaml(self._config), "config.yaml")
            result = evaluate_on_test(model, self._config, self._data, run, self._console, step=0)
            self._add(name, result, run, 0)

    def _add(self, name: str, result: Result, run: Run, step: int) -> None:
        """Add the column of a segmenter: its scores, and those of its image-level decisions."""
        data, options = self._data, self._config.evaluate
        part = data.splits[data.reported]
        scores, intervals = image_scores(
            result, truth_of(part, self._labels), [record.patient_id for record in part.records], options.resamples,
            self._config.seed,
        )  # fmt: skip
        run.metrics({f"{data.reported}/{each}": value for each, value in (scores | intervals).items()}, step)
        self.columns[name] = Column({**result.scores, **scores}, {**result.intervals, **intervals})


def _record(run: Run, config: TaskConfig, network: InputConfig) -> None:
    run.params(recorded(config, network))
    run.text(resolved_yaml(config), "config.yaml")


def _show(model: ResUNet | Classifier, console: Console, text: str) -> None:
    network = model.config
    height, width = network.input_shape
    size = f"{height}×{width}×{network.channels}"
    console.print(f"Model: {size}, {text}, {model.count_params() / 1e6:.2f} M weights", markup=False)


def _log_comparison(columns: Mapping[str, Column], data: Data, parent: Run, console: Console) -> None:
    """Log and print the comparison."""
    found = rows(columns)
    parent.text(csv_text(found), "comparison.csv")
    parent.text(comparison_markdown(columns), "comparison.md")
    parent.metrics({f"{row['model']}/{row['measure']}": row["value"] for row in found})
    title = f"{split_title(data)}, with 95 % intervals over patients"
    parent.tags({"mlflow.note.content": f"{data.name}. {title}: {', '.join(columns)}. **Research use only.**"})
    console.print(f"\n{title}", style="bold")
    console.print(comparison_table(columns))
    console.print("Research use only.")
