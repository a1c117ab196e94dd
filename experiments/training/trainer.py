"""The main job from top to bottom: data, model, training, evaluation, registry. `train` is the order of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np
from rich.console import Console

from experiments.config.resolve import Resolved, parameters, resolved_yaml
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import Result, evaluate_on_test, inference_model
from experiments.evaluation.registration import register_model
from experiments.evaluation.report import log_report
from experiments.findings import FINDINGS
from experiments.training.callbacks import EpochCallback, OnValidation
from experiments.training.checkpointing import TrainingCheckpointer, asked_facts
from experiments.training.fit import fit
from experiments.training.planner import make_plan, resolve_runtime_options
from experiments.training.progress import ProgressDisplay
from experiments.training.resume import Found, find
from experiments.training.training_data import Data, read_data
from mrcnn.backend import computes_in_bfloat16
from mrcnn.data import Loader, make_batch
from mrcnn.data.transforms.encoding import Batch
from mrcnn.models import Classifier, MaskRCNN, ResUNet, load
from mrcnn.models.pretrained.initial_weights import load_weights
from mrcnn.models.training.data_parallel import make_data_parallel
from trackers.checkpoints.best_and_last import Checkpoints
from trackers.checkpoints.initial_weights import MODEL, model_file
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.packaging.packaged import log_packaged_model
from trackers.runs.run import Run, tracked_run
from trackers.runs.tensorboard import EventWriter

Model = TypeVar("Model", MaskRCNN, ResUNet, Classifier)


def train(resolved: Resolved, resume: str | None = None) -> str:
    """Train, evaluate, track and register a model for a checked task.

    Args:
        resume: the interrupted run to go on with, or `auto`, see `experiments.training.resume.find`.

    Returns:
        The id of the run.

    Raises:
        InputError: the data, or their fit to the configuration or to the interrupted run, is bad.
        Diverged: the loss is no longer a number.
        NotKept: the disk does not take a checkpoint.
        ServerAway: the tracking server is, and the model could not be registered.
    """
    config, backend = resolved.config, keras.backend.backend()
    tags = {"model": MODEL, **({"profile": resolved.profile} if resolved.profile else {})}
    console = Console(highlight=False)
    with ExitStack() as held:
        found = None if resume is None else find(resume, config, held, console)
        run = _train(config, backend, tags, found, held, console)
        Unfinished(run.id).remove()
    console.print(f"Look at the run:  {run.how_to_open()}\n                  {run.url()}", soft_wrap=True)
    return run.id


def _train(
    config: TaskConfig, backend: str, tags: Mapping[str, str], found: Found | None, held: ExitStack, console: Console
) -> Run:
    """Do what is left to do; `held` keeps other processes from this training until it is left."""
    keras.utils.set_random_seed(config.seed)
    resumed = None if found is None else found.keeping.unfinished.run_id
    with (
        tracked_run(
            task=config.task, modality=config.modality, seed=config.seed, backend=backend, tags=tags, resumed=resumed
        ) as run,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        console.print(f"Task {config.task}, {config.modality}, on {backend}; run {run.id}", soft_wrap=True)
        if found is None:
            held.enter_context((training := Unfinished(run.id)).held())
            data = read_data(config, run, console)
            keeping = TrainingCheckpointer(training, asked_facts(config, data))
        else:
            data, keeping = found.data, found.keeping
        with make_data_parallel(config.train.devices, config.train.batch_size):
            if found is None:
                model, config = make_model(config, data, run, console, Path(folder))
            else:
                model, config = keeping.model()
                run.tags({"resumed_after_epoch": keeping.epochs_done})
                console.print(f"Going on after epoch {keeping.epochs_done} of {config.train.epochs}", soft_wrap=True)
            best, epochs = fit_model(model, config, data, run, console, Path(folder), keeping=keeping)
        # The step after the last epoch's: without a test split the best epoch's scores stand among the validations.
        result = evaluate_on_test(inference_model([best], config), config, data, run, console, step=epochs + 1)
        best.save(file := Path(folder, "model.keras"))
        with ExitStack() as at_last:
            # Also when packaging or registry fail: what was measured is there to be read.
            at_last.callback(log_report, run)
            package_and_register([file], result, config, data, run, console)
    return run


def make_model(config: TaskConfig, data: Data, run: Run, console: Console, folder: Path) -> tuple[MaskRCNN, TaskConfig]:
    """Plan the model from the training split and build it; the configuration comes back with nothing left open."""
    weights = model_file(config.train.weights, task=config.task, folder=folder / "start")
    plan = make_plan(config, data.splits["train"], weights)
    config = resolve_runtime_options(plan.fill_in(config), data.splits["train"])
    run.params(parameters(config))
    run.metrics(plan.measures())
    run.text(resolved_yaml(config), "config.yaml")
    if config.train.precision != "float32" and not computes_in_bfloat16():
        console.print(
            f"warning: train.precision={config.train.precision}: this device does not compute in bfloat16 with "
            f"{keras.backend.backend()}, a step may take tens of times as long as in float32",
            style="yellow",
            soft_wrap=True,
        )
    model = MaskRCNN(plan.model, seed=config.seed, dtype=config.train.precision)
    console.print(plan.describe(model.count_params(), config.train.precision), soft_wrap=True)
    if weights != "none":
        # A fetched file has a passing name; the person's own says more.
        report = replace(load_weights(model, weights), source=config.train.weights)
        run.text(report.text(every_layer=True), "weights.txt")
        console.print(report.text(), markup=False, soft_wrap=True)
    return model, config


def fit_model(
    model: Model,
    config: TaskConfig,
    data: Data,
    run: Run,
    console: Console,
    folder: Path,
    on_validation: OnValidation | None = None,
    *,
    batch_of: Callable[..., Batch] = make_batch,
    weights: np.ndarray | None = None,
    epoch_end: type[EpochCallback] = EpochCallback,
    metric: str | None = None,
    higher_is_better: bool = True,
    keeping: TrainingCheckpointer | None = None,
) -> tuple[Model, int]:
    """Train `model`; returns that of the best epoch, and how many there were. `on_validation`: see `EpochCallback`.

    Checkpoints and events are kept also when the training is cut short.

    Args:
        batch_of, weights: see `Loader`.
        metric, higher_is_better: of the validation that decides the best epoch; None: the task's.
        keeping: keeps the state after each epoch, and may hold one from which to go on; None: nothing is kept for that.
    """
    loader = Loader(
        data.splits["train"],
        model.config,
        config.train.batch_size,
        augmentation=config.augment,
        shuffle=True,
        seed=config.seed,
        workers=config.train.workers,
        batch_of=batch_of,
        weights=weights,
    )
    steps = config.train.steps_per_epoch or len(loader)
    folder = keeping.unfinished.folder if keeping else folder
    checkpoints = Checkpoints(
        folder / "checkpoints",
        metric=f"val/{metric or config.evaluate.metric}",
        higher_is_better=higher_is_better if metric else config.higher_is_better,
    )
    events = EventWriter(folder / "tensorboard", keeping and keeping.event_position())
    done = keeping.epochs_done if keeping else 0
    with (
        ExitStack() as at_last,
        ProgressDisplay(console, epochs=config.train.epochs, steps_per_epoch=steps, epochs_done=done) as screen,
    ):
        at_last.callback(run.artifact, folder / "checkpoints")
        at_last.callback(run.artifact, folder / "tensorboard")
        at_last.callback(events.close)
        ended = epoch_end(
            config,
            data.splits["val"],
            screen=screen,
            run=run,
            events=events,
            checkpoints=checkpoints,
            on_validation=on_validation,
            keep=keeping and (lambda ended: keeping.save(model, config, ended, checkpoints, events)),
        )
        if keeping is not None:
            keeping.begin(model, config, ended, checkpoints, events)
        fit(model, loader, config.train, steps, ended, screen, keeping.state.arrays if done else None)
    epochs, best = ended.epochs_done, checkpoints.best_path
    if best is None:
        console.print(f"warning: {checkpoints.metric} was never defined; the last epoch is taken", style="yellow")
    run.metrics({"best_epoch": checkpoints.best_epoch or epochs, "epochs": epochs})
    return load(best or checkpoints.last_path, (type(model),)), epochs


def package_and_register(
    files: Sequence[Path],
    result: Result,
    config: TaskConfig,
    data: Data,
    run: Run,
    console: Console,
    *,
    family: str = "mrcnn",
) -> str:
    """Package the saved networks with all that they need and enter them in the registry as `<family>-<modality>`.

    Returns the address of the package.
    Raises `ServerAway`, see `Run.require_server`.
    """
    run.require_server("the model is neither packaged nor registered, which `--resume auto` of a training does later")
    part = data.splits[data.reported]
    # Baselines are judged without it.
    tta = config.evaluate.tta and family == "mrcnn"
    uri = log_packaged_model(
        run,
        files,
        flips=config.augment.flips if tta else (),
        mirrored_ids=config.augment.mirrored_ids(part.class_names).tolist() if tta else None,
        confidence=result.confidence,
        class_names=part.class_names,
        config=config.model_dump(mode="json"),
        sample_image=part[0].image,
        findings=FINDINGS[config.findings] if config.findings != "none" else None,
        fingerprint=data.facts,
    )
    register_model(uri, config, run, console, family=family)
    return uri
