"""Start a run in MLflow, and end it with the status of the job."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.entities import Run as RecordedRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from mrcnn.errors import InputError, counted
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.offline.pending_records import upload_pending
from trackers.offline.server import (
    ACCESS,
    ServerAway,
    Undelivered,
    WrongServer,
    check_reachable,
    denied,
    is_server,
    unreachable,
)
from trackers.runs.address import hide_credentials
from trackers.runs.disk import DiskRefused, disk_problem
from trackers.runs.environment import COMMIT, git_tags
from trackers.runs.killed import preserve_killed_status
from trackers.runs.local_store import place_of
from trackers.runs.signals import Pruned, SignalHandler
from trackers.runs.writer import SYNC, Run, left_behind

PROJECT = "mlflow.project.entryPoint"
"""Tag of runs that `mlflow run` has started."""
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without this tag MLflow's page shows the experiment as one of language models."""
RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
"""Names that MLflow gives to runs without one."""
RESUMED_RUN = "resumed_run"
"""Tag of a run of `mlflow run` whose command resumed an earlier run: the id of that run."""


@dataclass(frozen=True)
class Parent:
    """The parent of a run, and its experiment."""

    run_id: str
    experiment_id: str


@contextmanager
def tracked_run(
    *,
    task: str,
    modality: str,
    seed: int,
    backend: str,
    run_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    parent: Parent | None = None,
    resumed: str | None = None,
) -> Iterator[Run]:
    """Start a run in the experiment `task`, or continue the run of MLFLOW_RUN_ID, and end it after the body.

    The run ends FINISHED; KILLED after Ctrl-C, SIGTERM (`trackers.runs.signals.Terminated`) or
    `trackers.runs.signals.Pruned`; FAILED after any other exception, whose message becomes the tag `error`. The
    exception is raised again. A signal during the end waits. System metrics are logged unless
    MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is set otherwise.

    A tracking server may be unreachable for a while, see `trackers.offline.buffered_logger.BufferedLogger`, but must
    answer when a run without a parent starts; `ServerAway` is raised if records remain queued at its end.

    Args:
        task: name of the experiment.
        modality: a tag, such as `ultrasound`.
        seed: a tag: the seed of the training.
        backend: a tag: the backend of Keras.
        run_name: None for a random name of MLflow.
        tags: further tags.
        parent: of a nested run, which is in its experiment.
        resumed: id of an earlier run that is continued; the run of MLFLOW_RUN_ID then gets the tag `resumed_run`.

    Raises:
        InputError: MLFLOW_RUN_ID is no run of the store, the experiment was deleted, or the server does not answer or
            refuses access.
        ServerAway: the server is unreachable, and the work needs it.
        DiskRefused: a disk is full or cannot be written.
    """
    # MLflow prints the address of the run with its password; `Run.how_to_open` prints it without.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # MLflow's progress bars would interrupt that of the training.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    run_tags = {"task": task, "modality": modality, "seed": str(seed), "backend": backend, **(tags or {})}
    if parent is None:
        check_reachable()
    with SignalHandler() as stop:
        try:
            run, of_mlflow_run = _start(task, run_name, run_tags, parent, resumed)
        except Exception as error:
            if (problem := disk_problem(error)) is None:
                raise
            raise DiskRefused(f"{problem}; no run has begun") from error
        try:
            stop.release()
            yield run
            stop.hold()
        except BaseException as error:
            stop.hold()
            ended = _end_after(error, run, of_mlflow_run)
            if is_server(mlflow.get_tracking_uri()) and unreachable(error):
                raise ServerAway(
                    f"run {run.id} FAILED: it needed the tracking server, which is away; {SYNC}"
                ) from error
            if is_server(mlflow.get_tracking_uri()) and (status := denied(error)) is not None:
                raise InputError(
                    f"run {run.id}: the tracking server {hide_credentials(mlflow.get_tracking_uri())} refuses access "
                    f"(HTTP {status}); {ACCESS}"
                ) from error
            if isinstance(error, Exception) and (problem := disk_problem(error, run.folders)) is not None:
                status = "FAILED" if ended else "could not be marked FAILED"
                interrupted = parent.run_id if parent is not None and Unfinished(parent.run_id).resumable() else run.id
                raise DiskRefused(f"{problem}; run {run.id} {status}; {_saved(interrupted)}") from error
            raise
        run.end()
        if parent is None:
            _raise_if_left()


def _saved(run_id: str) -> str:
    """Describe how to resume the training, or the group of trainings, of a run."""
    training = Unfinished(run_id)
    if not training.resumable():
        return "no checkpoint to resume from"
    epochs = training.states.epochs()
    saved = f"its state after epoch {epochs[0]} is" if epochs else "its finished trainings are"
    return f"{saved} saved in {training.folder}: free space, then --resume {run_id}"


def _raise_if_left() -> None:
    """Upload the queued records of the runs of this process, because nested runs end before their parent."""
    found = [unsent for run_id in sorted(left_behind) if (unsent := upload_pending(run_id)) is not None]
    left_behind.clear()
    if problems := {unsent.problem for unsent in found if unsent.problem is not None}:
        left = sum(unsent.left for unsent in found)
        records = counted(left, "record waits", "records wait")
        raise Undelivered(f"{records} for the tracking server: {'; '.join(sorted(problems))}; {SYNC}")


def _start(
    task: str, run_name: str | None, tags: dict[str, str], parent: Parent | None, resumed: str | None
) -> tuple[Run, bool]:
    """Start the run; return it and whether `mlflow run` has created it."""
    client, named = MlflowClient(), False
    tags = {**git_tags(Path(__file__)), **tags}
    # None: the variable decides.
    system_metrics = None if "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING" in os.environ else True
    if parent is not None:
        # The variable is the parent, or a parent of it.
        os.environ.pop("MLFLOW_RUN_ID", None)
        experiment_id, of_mlflow_run = parent.experiment_id, False
        tags[MLFLOW_PARENT_RUN_ID] = parent.run_id
    elif resumed is not None:
        if bystander := os.environ.pop("MLFLOW_RUN_ID", None):
            client.set_tag(bystander, RESUMED_RUN, resumed)
        experiment_id, of_mlflow_run = None, False
    elif run_id := os.environ.get("MLFLOW_RUN_ID"):
        recorded = _existing(client, run_id)
        present = recorded.data.tags
        _refuse_passwords(client, recorded)
        if COMMIT in present:
            tags.pop(COMMIT, None)
        experiment_id, of_mlflow_run = None, PROJECT in present
        named = RANDOM_NAME.fullmatch(recorded.info.run_name or "") is None
        if run_name is not None and not named:
            client.set_tag(run_id, MLFLOW_RUN_NAME, run_name)
        run_name = None
    else:
        experiment_id, of_mlflow_run = _experiment(client, task), False
    if resumed is not None:
        present = _existing(client, resumed).data.tags
        # The earlier error is obsolete; the commit remains that of the start.
        if "error" in present:
            client.delete_tag(resumed, "error")
        tags = {name: value for name, value in tags.items() if name not in (COMMIT, "git_dirty")}
    active = mlflow.start_run(
        run_id=resumed,
        experiment_id=experiment_id,
        run_name=run_name if resumed is None else None,  # a resumed run has its name
        tags=tags,
        log_system_metrics=system_metrics,
        nested=parent is not None,
    )
    try:
        if not active.info.run_id:
            raise WrongServer(f"no MLflow tracking server answers at {hide_credentials(mlflow.get_tracking_uri())}")
        place = place_of(active.info.artifact_uri or "")
        folders = () if place is None or not active.info.artifact_uri else (place,)
        run = Run(
            client,
            active.info.run_id,
            active.info.experiment_id,
            resumed=resumed is not None,
            folders=folders,
            named=named,
        )
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    return run, of_mlflow_run


def _refuse_passwords(client: MlflowClient, recorded: RecordedRun) -> None:
    """Remove passwords from the tags that `mlflow run` has logged; parameters cannot be changed.

    Raises:
        InputError: a parameter contains a password.
    """
    for name, value in recorded.data.tags.items():
        if (hidden := hide_credentials(value)) != value:
            client.set_tag(recorded.info.run_id, name, hidden)
    for name, value in recorded.data.params.items():
        if hide_credentials(value) != value:
            raise InputError(
                f"{name}={hide_credentials(value)}: `mlflow run` has logged the password in it, where it cannot be "
                f"removed: change it, delete run {recorded.info.run_id}, and pass the password in the "
                "environment (PGPASSWORD, MLFLOW_TRACKING_PASSWORD) or in ~/.pgpass"
            )


def _existing(client: MlflowClient, run_id: str) -> RecordedRun:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store = hide_credentials(mlflow.get_tracking_uri())
        raise InputError(f"MLFLOW_RUN_ID={run_id}: expected a run of the store {store}") from error


def _experiment(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment, created if missing; another process may create it at the same time."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None:
        raise WrongServer(f"no MLflow tracking server answers at {hide_credentials(mlflow.get_tracking_uri())}")
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"experiment {name!r} was deleted: expected an active one "
            f"(mlflow experiments restore --experiment-id {found.experiment_id})"
        )
    return found.experiment_id


def _end_after(error: BaseException, run: Run, of_mlflow_run: bool) -> bool:
    """End the run with the status for `error`; return whether that succeeded. Further errors are added as notes."""
    if isinstance(error, KeyboardInterrupt | Pruned):
        status = "KILLED"
    elif isinstance(error, SystemExit) and not error.code:
        status = "FINISHED"
    else:
        status = "FAILED"
    try:
        if status != "FINISHED":
            run.undo()
    except Exception as second:  # noqa: BLE001
        error.add_note(hide_credentials(f"What run {run.id} had registered could not be removed: {second}"))
    try:
        if status == "FAILED":
            run.tags({"error": hide_credentials(f"{type(error).__name__}: {error}")})
    except Exception as second:  # noqa: BLE001 the store may have caused the first error
        error.add_note(hide_credentials(f"The message could not be logged: {second}"))
    try:
        run.end(status)
        if status == "KILLED" and of_mlflow_run:
            preserve_killed_status(run.id)
    except Exception as second:  # noqa: BLE001
        error.add_note(hide_credentials(f"MLflow run {run.id} could not be marked {status}: {second}"))
        return False
    return True
