"""Start the run of a training, or reopen an interrupted one: that named, or the newest of the same configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

import keras
import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from rich.console import Console

from experiments.config.resolve import INSTANCES, Resolved
from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import check_data
from experiments.preparation.datasets import dataset_name
from experiments.terminal import print_addresses, warn
from experiments.training.checkpointing import ResumableTraining, differences, requested_facts
from experiments.training.training_data import Data, usable_data
from mrcnn.errors import InputError
from mrcnn.models.training.data_parallel import select_devices
from trackers.checkpoints.checkpoint_store import TrainingCheckpoint
from trackers.checkpoints.initial_weights import MODEL
from trackers.checkpoints.unfinished_runs import Held, Unfinished, recorded, unfinished
from trackers.offline.pending_records import pending_runs, upload_pending
from trackers.runs.address import hide_credentials
from trackers.runs.run import Run, tracked_run

AUTO = "auto"


class Refused(InputError):
    """A training cannot be resumed as requested."""


def task_run(config: TaskConfig, **options: Any) -> AbstractContextManager[Run]:
    """Start a run with the facts of the task, see `tracked_run`."""
    backend = keras.backend.backend()
    return tracked_run(task=config.task, modality=config.modality, seed=config.seed, backend=backend, **options)


def run_name(config: TaskConfig, name: str | None = None, part: str = "") -> str:
    """Name a run by what it trains: `thyroid lite0-384 e40 s0`, without what is not planned yet.

    `name` replaces that name; `part` is the place in a group, such as `fold 1 of 5`.
    """
    if name is None:
        subject = dataset_name(config.data) if config.task == INSTANCES and config.data.dataset else config.task
        backbone, size, epochs = config.model.backbone, config.model.image_size, config.train.epochs
        sides = size if isinstance(size, tuple) else (size,)
        network = [str(backbone).replace("efficientnet_", ""), "x".join(map(str, sides))]
        words = [subject, "-".join(word for word in network if word != AUTO)]
        words += [f"e{epochs}"] * (epochs != AUTO) + [f"s{config.seed}"] * (not part)
        name = " ".join(word for word in words if word)
    return f"{name}, {part}" if part else name


@contextmanager
def resumable_run(
    resolved: Resolved, resume: str | None, console: Console, kind: str = "", model: str = MODEL
) -> Iterator[tuple[Run, ResumableTraining | None]]:
    """Start the run of a training or reopen an interrupted one, and hold its folder, which is removed at the end.

    `resume` is the id of an interrupted run, or `auto`; `kind` tells the run from a single training, such as `3 folds`;
    `model` is its tag.

    Returns:
        The run, and the training to resume, if there is one.

    Raises:
        InputError: the run named cannot be resumed, or the data are invalid.
    """
    config = resolved.config
    # Before the data are read; a planned batch is a multiple of the devices.
    batch = config.train.batch_size if config.train.batch_size != "auto" else config.train.devices
    select_devices(config.train.devices, 0 if batch == "all" else batch)
    tags = {"model": model, **({"profile": resolved.profile} if resolved.profile else {})}
    with ExitStack() as held:
        found = None if resume is None else find(resume, config, held, console)
        keras.utils.set_random_seed(config.seed)
        title = run_name(config, resolved.name, kind)
        with task_run(config, run_name=title, tags=tags, resumed=found and found.folder.name) as run:
            about = f"Task {config.task}, {config.modality}, on {keras.backend.backend()}{kind and f', {kind}'}"
            console.print(f"{about}; run {run.id}")
            if found is None:
                held.enter_context(Unfinished(run.id).held())
            yield run, found
        Unfinished(run.id).remove()
    print_addresses(console, run)


def find(resume: str, config: TaskConfig, held: ExitStack, console: Console) -> ResumableTraining | None:
    """Find the training to resume, and reserve it for this process until `held` closes.

    `resume` is the id of a run, or `auto`. Configuration and data must equal those of the run.

    Returns:
        None where `auto` finds none, and a new training begins.

    Raises:
        InputError: the run named cannot be resumed, or the data are invalid.
    """

    @cache
    def data() -> Data:
        checked = check_data(config, console)
        checked.raise_if_wrong()
        return usable_data(checked, config)

    # Records that an earlier process could not upload decide which training is interrupted.
    for run_id in pending_runs():
        upload_pending(run_id)
    client = MlflowClient()
    if resume != AUTO:
        run = recorded(client, resume)
        if run is None:
            problem = f"no such run in the store {hide_credentials(mlflow.get_tracking_uri())}"
        elif run.info.status == "FINISHED":
            problem = "the run has finished; expected an interrupted one"
        elif (parent := run.data.tags.get(MLFLOW_PARENT_RUN_ID)) is not None:
            problem = f"the run is part of another one; expected --resume {parent}"
        else:
            try:
                return resume_training(Unfinished(resume), config, data, held, console)
            except Refused as reason:
                problem = str(reason)
        raise InputError(f"--resume {resume}: {problem}")
    reasons = []
    for training, run in unfinished(client):
        # A trial is resumed by its sweep, a fold or a seed by its group.
        if run.data.tags.get("task") != config.task or MLFLOW_PARENT_RUN_ID in run.data.tags:
            continue
        if not training.resumable():
            _give_up(training, client)
            continue
        try:
            return resume_training(training, config, data, held, console)
        except Refused as reason:
            reasons.append(f"{training.run_id}: {reason}")
    console.print(
        f"No interrupted training to go on with{f' ({reasons[0]})' if reasons else ''}; a new one begins",
        markup=False,
    )
    return None


def _give_up(training: Unfinished, client: MlflowClient) -> None:
    """End the run of a training that was killed before its first checkpoint, unless it is just beginning."""
    with suppress(Held), training.held():
        if not training.resumable():
            client.set_tag(training.run_id, "error", "the process was killed before the first epoch")
            client.set_terminated(training.run_id, "KILLED")
            training.remove()


def resume_training(
    training: Unfinished, config: TaskConfig, data: Callable[[], Data], held: ExitStack, console: Console
) -> ResumableTraining:
    """Reserve a training for this process until `held` closes, and read its checkpoint and its data.

    Raises:
        Refused: its configuration or data differ, another process works at it, or no checkpoint of it is intact.
        InputError: the data are invalid.
    """
    facts = training.facts()
    if facts is None:
        _, problems = training.states.newest()
        raise Refused(
            "; ".join(problems)
            or f"no checkpoint of its training in {training.folder}: it was interrupted before it began, or was "
            "trained elsewhere"
        )
    _refuse(differences(facts, requested_facts(config)))
    with ExitStack() as stack:
        try:
            stack.enter_context(training.held())
        except Held as error:
            raise Refused(str(error)) from error
        requested = requested_facts(config, data())
        _refuse(differences(facts, requested))
        if not training.resumable():
            raise Refused("another process has just finished it")
        checkpoint = intact_checkpoint(training, console)
        held.push(stack.pop_all())
    return ResumableTraining(training.folder, data(), requested, checkpoint)


def intact_checkpoint(training: Unfinished, console: Console) -> TrainingCheckpoint | None:
    """Return the newest intact checkpoint, with a warning about damaged newer ones; None: there never was one.

    Raises:
        Refused: all of them are damaged.
    """
    checkpoint, problems = training.states.newest()
    if checkpoint is None and problems:
        raise Refused("; ".join(problems))
    for problem in problems:
        warn(console, f"{problem}; going on from that of epoch {checkpoint.epoch if checkpoint else 0}")
    return checkpoint


def _refuse(fields: list[str]) -> None:
    if fields:
        raise Refused(f"expected what the run was started with, but {', '.join(fields)} differ")
