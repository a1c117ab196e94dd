"""What runs that hold several trainings have in common: folds of a cross-validation, seeds on one split."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
from rich.console import Console

from experiments.config.resolve import Resolved
from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate_on_test import Result, evaluate_on_test, inference_model
from experiments.evaluation.report import log_report
from experiments.training.trainer import fit_model, make_model, package_and_register
from experiments.training.training_data import Data, record_data
from mrcnn.models.training.data_parallel import make_data_parallel
from trackers.checkpoints.initial_weights import MODEL, PACKAGE
from trackers.runs.run import Parent, Run, tracked_run


@contextmanager
def holding(resolved: Resolved, console: Console, trainings: str) -> Iterator[tuple[Run, Path]]:
    """The run that holds them, and a folder for as long. `trainings`: how many of what, to be told."""
    config, backend = resolved.config, keras.backend.backend()
    tags = {"model": MODEL, **({"profile": resolved.profile} if resolved.profile else {})}
    with (
        tracked_run(task=config.task, modality=config.modality, seed=config.seed, backend=backend, tags=tags) as run,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        console.print(f"Task {config.task}, {config.modality}, on {backend}, {trainings}; run {run.id}", soft_wrap=True)
        yield run, Path(folder)
    console.print(f"Look at the run:  {run.how_to_open()}\n                  {run.url()}", soft_wrap=True)


@contextmanager
def within(
    parent: Run, config: TaskConfig, name: str, console: Console, tags: Mapping[str, object] | None = None
) -> Iterator[Run]:
    """The run of one of them."""
    with tracked_run(
        task=config.task,
        modality=config.modality,
        seed=config.seed,
        backend=keras.backend.backend(),
        run_name=name,
        tags={"model": MODEL, **(tags or {})},
        parent=Parent(parent.id, parent.experiment_id),
    ) as run:
        console.print(f"\n{name.capitalize()}; run {run.id}", style="bold", soft_wrap=True)
        yield run


def train_one(
    config: TaskConfig, data: Data, seed: int, run: Run, console: Console, file: Path
) -> tuple[TaskConfig, int, Result]:
    """One of them, whose best network is saved as `file`.

    Args:
        seed: of weights, order and augmentation, so that each begins alike whatever came before it.

    Returns:
        Its configuration with nothing left to the data, the epochs that it took, and what it reached.
    """
    keras.utils.set_random_seed(seed)
    record_data(data, config, run)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        with make_data_parallel(config.train.devices, config.train.batch_size):
            model, planned = make_model(config, data, run, console, Path(scratch))
            best, epochs = fit_model(model, planned, data, run, console, Path(scratch))
        result = evaluate_on_test(inference_model([best], planned), planned, data, run, console, step=epochs + 1)
        best.save(file)
        log_report(run)
    return planned, epochs, result


def publish_outcome(
    files: Sequence[Path], result: Result, config: TaskConfig, data: Data, run: Run, console: Console
) -> None:
    """Package and register what came of them, for which `run` stands from then on; the report is there in any case."""
    with ExitStack() as at_last:
        at_last.callback(log_report, run)
        run.tags({PACKAGE: package_and_register(files, result, config, data, run, console)})
