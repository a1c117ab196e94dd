"""Which interrupted training goes on: the one that was named, or the newest that is the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from rich.console import Console

from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import check_data
from experiments.training.checkpointing import (
    ASKED,
    BACKEND,
    TrainingCheckpointer,
    asked_facts,
    differences,
    plain,
    this_backend,
)
from experiments.training.training_data import Data, usable_data
from mrcnn.errors import InputError
from trackers.checkpoints.unfinished_runs import Held, Unfinished, recorded, unfinished
from trackers.offline.pending_records import pending_runs, upload_pending
from trackers.runs.address import hide_credentials

AUTO = "auto"


@dataclass(frozen=True)
class Found:
    """An interrupted training with a whole state, and its data, read again."""

    keeping: TrainingCheckpointer
    data: Data


class Refused(InputError):
    """A training cannot go on as asked."""


def find(resume: str, config: TaskConfig, held: ExitStack, console: Console) -> Found | None:
    """The training that `resume` means, held until `held` is left; None where a new one is to begin.

    Args:
        resume: a run's id, or `auto`.
        config: as asked for, which must be what the run was started with, and so must the data.

    Raises:
        InputError: the run named cannot go on, or the data are bad.
    """

    @cache
    def data() -> Data:
        checked = check_data(config)
        checked.raise_if_wrong()
        return usable_data(checked, config)

    # What an earlier process could not tell the store decides which training is interrupted.
    for run_id in pending_runs():
        upload_pending(run_id)
    client = MlflowClient()
    if resume != AUTO:
        return _named(resume, config, data, client, held, console)
    reasons = []
    for training, run in unfinished(client):
        # A trial's run is below a sweep's, which takes it up itself.
        if run.data.tags.get("task") != config.task or MLFLOW_PARENT_RUN_ID in run.data.tags:
            continue
        if not training.states.epochs():
            _give_up(training, client)
            continue
        try:
            return take_up(training, config, data, held, console)
        except Refused as reason:
            reasons.append(f"{training.run_id}: {reason}")
    console.print(
        f"No interrupted training to go on with{f' ({reasons[0]})' if reasons else ''}; a new one begins",
        markup=False,
        soft_wrap=True,
    )
    return None


def _give_up(training: Unfinished, client: MlflowClient) -> None:
    """End the run of a training that was killed before its first state was whole, unless it is just beginning."""
    with suppress(Held), training.held():
        if not training.states.epochs():
            client.set_tag(training.run_id, "error", "the process was killed before the first epoch")
            client.set_terminated(training.run_id, "KILLED")
            training.remove()


def _named(
    run_id: str, config: TaskConfig, data: Callable[[], Data], client: MlflowClient, held: ExitStack, console: Console
) -> Found:
    asked = f"--resume {run_id}"
    run = recorded(client, run_id)
    if run is None:
        raise InputError(f"{asked}: no such run in the store {hide_credentials(mlflow.get_tracking_uri())}")
    if run.info.status == "FINISHED":
        raise InputError(f"{asked}: the run has finished; expected an interrupted one")
    try:
        return take_up(Unfinished(run_id), config, data, held, console)
    except Refused as reason:
        raise InputError(f"{asked}: {reason}") from reason


def take_up(
    training: Unfinished, config: TaskConfig, data: Callable[[], Data], held: ExitStack, console: Console
) -> Found:
    """Hold a training until `held` is left, and read its state and its data.

    Raises:
        Refused: it is another configuration's or other data's, under way, or no state of it is whole.
        InputError: the data are bad.
    """
    facts = training.states.facts()
    if facts is None:
        raise Refused(
            f"no state of its training in {training.folder}: it was interrupted before it began, or is kept elsewhere"
        )
    _refuse(differences(facts, {ASKED: plain(config), BACKEND: this_backend()}))
    with ExitStack() as stack:
        try:
            stack.enter_context(training.held())
        except Held as error:
            raise Refused(str(error)) from error
        asked = asked_facts(config, data())
        _refuse(differences(facts, asked))
        state, problems = training.states.newest()
        if state is None:
            raise Refused("; ".join(problems) or "another process has just finished it")
        for problem in problems:
            console.print(
                f"warning: {problem}; going on from that of epoch {state.epoch}",
                style="yellow",
                markup=False,
                soft_wrap=True,
            )
        held.push(stack.pop_all())
    return Found(TrainingCheckpointer(training, asked, state), data())


def _refuse(fields: list[str]) -> None:
    if fields:
        raise Refused(f"expected what the run was started with, but {', '.join(fields)} differ")
