"""The baselines' job from top to bottom; `train_baselines` is the order of it. Most of it is
`experiments.training.trainer`'s."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
from rich.console import Console

from experiments.baselines.classification import (
    EPOCH_METRIC,
    METRIC,
    ClassifierEpochEnd,
    ClassifierResult,
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
from experiments.evaluation.registration import register_model
from experiments.evaluation.report import log_report
from experiments.training.planner import resolve_runtime_options
from experiments.training.trainer import fit_model, package_and_register
from experiments.training.training_data import Data, read_data, record_data, split_title
from mrcnn.config import ClassifierConfig
from mrcnn.data.transforms.dense_encoding import make_dense_batch, make_label_batch
from mrcnn.models import Classifier, MaskRCNN, ResUNet
from mrcnn.models.baselines.classifier import Cascade
from mrcnn.models.pretrained.initial_weights import load_imagenet
from trackers.packaging.packaged import log_packaged_classifier
from trackers.runs.run import Parent, Run, tracked_run


def train_baselines(resolved: Resolved, models: Sequence[str], mask_rcnn: str | None) -> None:
    """Train, evaluate, track and register the baselines `models` of a checked task, and compare them.

    Args:
        models: of `command.MODELS`.
        mask_rcnn: a trained one, to be measured on the same images and put behind the classifier; or None.

    Raises:
        InputError: the data, or their fit to the configuration or to the Mask R-CNN, is bad.
        Diverged: a loss is no longer a number.
    """
    config = resolved.config
    console = Console(highlight=False)
    profile = {"profile": resolved.profile} if resolved.profile else {}
    with (
        tracked_run(**_described(config), tags={"model": "baselines", **profile}) as parent,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        console.print(f"Task {config.task}, {config.modality}: {', '.join(models)}; run {parent.id}", soft_wrap=True)
        given = given_mask_rcnn(mask_rcnn, config.task, Path(folder, "given")) if mask_rcnn else None
        data = read_data(config, parent, console)
        config = resolve_runtime_options(config, data.splits["train"])
        if given is not None:
            check_same_training(mask_rcnn, given, data, console)
        labels = classifier_config(config, data.splits["train"], data.splits.values())
        bench = _Bench(config, data, labels, parent, console, Path(folder))
        if given is not None:
            bench.measure("mask_rcnn", given.model, {"mask_rcnn": mask_rcnn})
        segmenters: dict[str, MaskRCNN | ResUNet] = {} if given is None else {"mask_rcnn": given.model}
        if "resunet" in models:
            segmenters["resunet"] = bench.resunet()
        judged = bench.classifier() if "classifier" in models else None
        if "cascade" in models:
            for name, segmenter in segmenters.items():
                cascade = Cascade(judged.model, segmenter, judged.threshold)
                bench.measure(f"cascade_{name}", cascade, {"segmenter": name, "threshold": judged.threshold})
        _conclude(bench.columns, data, parent, console)
    console.print(f"Look at the runs:  {parent.how_to_open()}\n                   {parent.url()}", soft_wrap=True)


def _described(config: TaskConfig) -> dict[str, object]:
    backend = keras.backend.backend()
    return {"task": config.task, "modality": config.modality, "seed": config.seed, "backend": backend}


class _Bench:
    """What all models of a comparison share; each gets a run of its own below `parent`, and a column."""

    def __init__(
        self, config: TaskConfig, data: Data, labels: ClassifierConfig, parent: Run, console: Console, folder: Path
    ) -> None:
        self._config, self._data, self._labels = config, data, labels
        self._parent, self._console, self._folder = Parent(parent.id, parent.experiment_id), console, folder
        self.columns: dict[str, Column] = {}

    @contextmanager
    def _run(self, name: str) -> Iterator[tuple[Run, Path]]:
        """A run of the model `name` that has recorded the data, and a folder for its files."""
        config = self._config
        self._console.print(f"\n{name}", style="bold")
        # Anew for each, so that a model does not depend on which others were asked for.
        keras.utils.set_random_seed(config.seed)
        folder = self._folder / name
        folder.mkdir()
        with tracked_run(**_described(config), run_name=name, tags={"model": name}, parent=self._parent) as run:
            record_data(self._data, config, run)
            yield run, folder

    def resunet(self) -> ResUNet:
        """Trains, measures and registers the ResUNet."""
        config, data, console = starting_from(self._config, "none"), self._data, self._console
        with self._run("resunet") as (run, folder):
            network = resunet_config(config, data.splits["train"])
            self._record(run, config, network)
            model = ResUNet(network, seed=config.seed, dtype=config.train.precision)
            _show(model, console, f"widths {' '.join(map(str, network.widths))}, loss {network.loss}")
            best, epochs = fit_model(model, config, data, run, console, folder, batch_of=make_dense_batch)
            result = evaluate_on_test(best, config, data, run, console, step=epochs + 1)
            self._compare("resunet", result, run, epochs + 1)
            best.save(file := folder / "model.keras")
            with ExitStack() as at_last:
                at_last.callback(log_report, run)
                package_and_register([file], result, config, data, run, console, family="unet")
        return best

    def classifier(self) -> ClassifierResult:
        """Trains, measures and registers the classifier."""
        weights = self._config.baseline.classifier_weights
        config, data, console = starting_from(self._config, weights), self._data, self._console
        with self._run("classifier") as (run, folder):
            self._record(run, config, self._labels)
            model = Classifier(self._labels, seed=config.seed, dtype=config.train.precision)
            told = "labels of the images" if self._labels.by_label else "whether there is an instance"
            _show(model, console, f"{self._labels.backbone}; {' or '.join(self._labels.class_names)}, by {told}")
            if weights == "imagenet":
                report = load_imagenet(model)
                run.text(report.text(every_layer=True), "weights.txt")
                console.print(report.text(), markup=False, soft_wrap=True)
            even = even_chances(data.splits["train"], self._labels) if config.baseline.classifier_balance else None
            best, epochs = fit_model(
                model, config, data, run, console, folder,
                batch_of=make_label_batch, weights=even, epoch_end=ClassifierEpochEnd, metric=EPOCH_METRIC,
                higher_is_better=False,
            )  # fmt: skip
            judged = evaluate_classifier_on_test(best, config, data, run, console, step=epochs + 1)
            self.columns["classifier"] = Column(judged.scores, judged.intervals)
            console.print(comparison_table({"classifier": self.columns["classifier"]}))
            judged.model.save(folder / "model.keras")
            log_report(run)
            uri = log_packaged_classifier(
                run,
                folder / "model.keras",
                threshold=judged.threshold,
                class_names=self._labels.class_names,
                config=config.model_dump(mode="json"),
                sample_image=data.splits[data.reported][0].image,
            )
            register_model(uri, config, run, console, family="classifier", metric=METRIC)
        return judged

    def measure(self, name: str, model: MaskRCNN | Cascade, facts: Mapping[str, object]) -> None:
        """Measures a model that needs no training."""
        with self._run(name) as (run, _):
            run.params(facts)
            run.text(resolved_yaml(self._config), "config.yaml")
            result = evaluate_on_test(model, self._config, self._data, run, self._console, step=0)
            self._compare(name, result, run, 0)

    def _record(self, run: Run, config: TaskConfig, network) -> None:
        run.params(recorded(config, network))
        run.text(resolved_yaml(config), "config.yaml")

    def _compare(self, name: str, result: Result, run: Run, step: int) -> None:
        """Adds a segmenter's column: its own scores, and how well it tells images apart."""
        data, options = self._data, self._config.evaluate
        part = data.splits[data.reported]
        scores, intervals = image_scores(
            result,
            truth_of(part, self._labels),
            [record.patient_id for record in part.records],
            options.resamples,
            self._config.seed,
        )
        run.metrics({f"{data.reported}/{each}": value for each, value in (scores | intervals).items()}, step)
        self.columns[name] = Column({**result.scores, **scores}, {**result.intervals, **intervals})


def _show(model: ResUNet | Classifier, console: Console, text: str) -> None:
    network = model.config
    height, width = network.input_shape
    size = f"{height}×{width}×{network.channels}"
    console.print(f"Model: {size}, {text}, {model.count_params() / 1e6:.2f} M weights", markup=False, soft_wrap=True)


def _conclude(columns: Mapping[str, Column], data: Data, parent: Run, console: Console) -> None:
    """Keeps and shows the comparison."""
    found = rows(columns)
    parent.text(csv_text(found), "comparison.csv")
    parent.text(comparison_markdown(columns), "comparison.md")
    parent.metrics({f"{row['model']}/{row['measure']}": row["value"] for row in found})
    title = f"{split_title(data)}, with 95 % intervals over patients"
    parent.tags({"mlflow.note.content": f"{data.name}. {title}: {', '.join(columns)}. **Research use only.**"})
    console.print(f"\n{title}", style="bold", soft_wrap=True)
    console.print(comparison_table(columns))
    console.print("Research use only.")
