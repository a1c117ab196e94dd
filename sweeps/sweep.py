"""Run a sweep: the study, its workers, and the best model."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import mlflow
import optuna
from mlflow.entities import Run as RecordedRun
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.trial import TrialState
from rich.console import Console

from experiments.config.resolve import parameters
from experiments.config.schema import PLANNED_EPOCHS
from experiments.preparation.data_check import check_data, show
from experiments.terminal import Terminal, phase, print_addresses, warn
from experiments.training.training_data import record_data, usable_data
from mrcnn.errors import InputError, counted
from sweeps.options import SweepArgs
from sweeps.processes import Process, Start, start_here
from sweeps.record import STATES, finished, log_plots, log_table, summary, values_text
from sweeps.run_endings import RUN, leave_ends
from sweeps.study import (
    EPOCHS,
    PLAN,
    REASON,
    SweepStudy,
    first_attempt,
    is_gone,
    make_sampler,
    num_unfinished,
    open_study,
    refill_queue,
    requeue_dead,
    this_process,
)
from sweeps.study_identity import DECIDES, decides, require_same, require_same_choices
from sweeps.training import Job
from sweeps.worker import DONE, REPLACE
from trackers.checkpoints.initial_weights import model_file
from trackers.checkpoints.unfinished_runs import recorded
from trackers.offline.pending_records import pending_runs, upload_pending
from trackers.runs.run import Parent, Run, tracked_run

PAUSE = 1.0
STARTING = "Starting workers"
"""Text of the progress while no trial runs."""
STOP_TIMEOUT = 30.0
"""Seconds in which stopped workers have to end their runs."""
MAX_CRASHES = 3
"""Number of workers in a row that end before starting a trial, after which the sweep stops."""
PARENT, OWNER = "parent_run", "keeper"
"""Attributes of the study: the run of the sweep, and the process that manages its workers."""


class NothingFinished(RuntimeError):
    """No trial of the sweep is complete."""


def sweep(wanted: SweepArgs) -> str:
    """Run the remaining trials of a sweep; then evaluate, package and register its best model, as a training does.

    Returns:
        The id of the run of the sweep.

    Raises:
        InputError: the data or the study are invalid, or the sweep is running already.
        NothingFinished: every trial failed.
    """
    config, options = wanted.resolved.config, wanted.options
    console = Terminal()
    checked = check_data(config, console)
    checked.raise_if_wrong()
    data = usable_data(checked, config)
    epochs = PLANNED_EPOCHS if config.train.epochs == "auto" else config.train.epochs
    study = open_study(wanted.storage, wanted.study, options, wanted.objectives, epochs=epochs)
    if DECIDES not in study.user_attrs and study.get_trials(deepcopy=False):
        warn(console, f"--study {wanted.study} does not say on which data and settings its trials were measured")
    require_same_choices(study, options)
    require_same(study, decides(config, options, wanted.objectives, data))
    make_sampler(options.sampler, config.seed, 0)  # raises if PyTorch is missing
    owner = study.user_attrs.get(OWNER)
    here = this_process()
    # The state of a process of another machine is unknown.
    if owner is not None and owner["host"] == here["host"] and owner != here and not is_gone(owner):
        raise InputError(f"sweep {wanted.study}: is running already, as process {owner['pid']}")
    study.set_user_attr(OWNER, here)
    requeue_dead(study, limit=None)
    added = refill_queue(study, options.trials)
    earlier = _earlier(study)
    if not added and not num_unfinished(study) and earlier is not None and earlier.info.status == "FINISHED":
        console.print(f"Sweep {wanted.study} is finished; its run is {earlier.info.run_id}")
        return earlier.info.run_id
    # Imported here, because a finished sweep needs no model.
    import keras

    from experiments.training.planner import make_plan, shared_settings
    from sweeps.finalize import finalize_sweep

    with (
        engine(wanted) as start,
        tracked_run(
            task=config.task,
            modality=config.modality,
            seed=config.seed,
            backend=keras.backend.backend(),
            run_name=f"sweep {wanted.study}",
            tags={"sweep": wanted.study},
        ) as run,
        tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder,
    ):
        _adopt(study, run)
        console.print(f"Sweep {wanted.study} of task {config.task}; run {run.id}")
        show(checked, console)
        if PLAN not in study.user_attrs:
            with phase(console, "Planning"):
                plan = make_plan(
                    config,
                    data.splits["train"],
                    lambda weights: model_file(weights, task=config.task, folder=Path(folder, "start")),
                    validation_images=len(data.splits["val"]),
                )
            study.set_user_attr(PLAN, shared_settings(plan.config))
        record_data(data, config, run)
        _search(wanted, study, run, console, Path(folder), start)
        deliver_trials(study)
        run.metrics(summary(study))
        log_plots(run, study, wanted.objectives, Path(folder) / "study")
        if not finished(study):
            reasons = [
                trial.user_attrs[REASON] for trial in study.get_trials(deepcopy=False) if REASON in trial.user_attrs
            ]
            raise NothingFinished(f"no trial came to its end: {next(iter(reasons), 'all were pruned')}")
        finalize_sweep(study, config, options, wanted.objectives, data, run, console, Path(folder))
    print_addresses(console, run)
    return run.id


def deliver_trials(study: optuna.Study) -> None:
    """Upload records that workers of this machine could not log because the tracking server was unreachable.

    These include the ends of the runs of interrupted trials; the best model is read from its run.
    """
    leave_ends(study)
    runs = {trial.user_attrs[RUN] for trial in study.get_trials(deepcopy=False) if RUN in trial.user_attrs}
    for run_id in runs.intersection(pending_runs()):
        upload_pending(run_id)


@contextmanager
def engine(wanted: SweepArgs) -> Iterator[Start]:
    """Yield what starts workers, on this machine or on those of a cluster."""
    tracking = mlflow.get_tracking_uri()
    if wanted.options.engine == "ray":
        from sweeps.ray_engine import cluster

        with cluster(wanted.options, wanted.storage, tracking) as start:
            yield start
    else:
        yield partial(start_here, tracking=tracking, together=wanted.options.workers)


def _earlier(study: optuna.Study) -> RecordedRun | None:
    """Return the run of an earlier call of the same sweep, if it exists in this store."""
    return recorded(mlflow.MlflowClient(), study.user_attrs[PARENT]) if PARENT in study.user_attrs else None


def _adopt(study: optuna.Study, run: Run) -> None:
    """Make `run` the parent of the trials of an earlier call of the same sweep, whose run ends KILLED."""
    earlier = _earlier(study)
    study.set_user_attr(PARENT, run.id)
    if earlier is None or earlier.info.run_id == run.id:
        return
    client, before = mlflow.MlflowClient(), earlier.info.run_id
    if earlier.info.experiment_id == run.experiment_id:
        for child in client.search_runs([run.experiment_id], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{before}'"):
            client.set_tag(child.info.run_id, MLFLOW_PARENT_RUN_ID, run.id)
    client.set_tag(before, "continued_by", run.id)
    if earlier.info.status == "RUNNING":
        client.set_terminated(before, "KILLED")


def _search(
    wanted: SweepArgs, study: SweepStudy, run: Run, console: Console, folder: Path, start: Start
) -> None:  # fmt: skip
    """Run the remaining trials with workers."""
    config, options = wanted.resolved.config, wanted.options
    option_values = options.model_dump(mode="json") | {"objectives": wanted.objectives, "study": wanted.study}
    run.params(parameters(config) | {f"sweep.{name}": value for name, value in option_values.items()})
    job = Job(config, options, wanted.objectives, wanted.storage, wanted.study, Parent(run.id, run.experiment_id))
    printed = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    if printed:
        console.print(f"{counted(len(printed), 'trial exists', 'trials exist')} already")
    with ExitStack() as at_last:
        at_last.callback(log_table, run, study, wanted.objectives)
        at_last.callback(run.artifact, folder / "logs")
        change_text = at_last.enter_context(phase(console, STARTING))
        workers = at_last.enter_context(Workers(job, options.workers, folder, start))
        while num_unfinished(study):
            workers.maintain(study)
            time.sleep(PAUSE)
            _print_ended(study, wanted.objectives, printed, console)
            change_text(_running(study))
    _print_ended(study, wanted.objectives, printed, console)


def _print_ended(study: optuna.Study, objectives: tuple[str, ...], printed: set[int], console: Console) -> None:
    """Print a line for each trial that has ended and is not in `printed`."""
    for trial in study.get_trials(deepcopy=False):
        if trial.number in printed or not trial.state.is_finished():
            continue
        printed.add(trial.number)
        name = f"trial {first_attempt(trial)}"
        if trial.values:
            said = values_text(objectives, trial)
        else:
            said = trial.user_attrs.get(REASON, f"after epoch {trial.user_attrs.get(EPOCHS, 0)}")
        drawn = ", ".join(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                          for key, value in trial.params.items())  # fmt: skip
        console.print(f"{name} {STATES[trial.state.name]}: {said}  ({drawn})", markup=False)


def _running(study: optuna.Study) -> str:
    """Name the trials that run, each with its last validated epoch."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    names = [f"{first_attempt(trial)} (epoch {trial.user_attrs.get(EPOCHS, 0)})" for trial in running]
    return f"Running: trial {', '.join(names)}" if names else STARTING


class Workers:
    """Manage `count` workers. At the end, running ones are terminated, and killed after `STOP_TIMEOUT`."""

    def __init__(self, job: Job, count: int, folder: Path, start: Start) -> None:
        self._job = folder / "job.json"
        self._job.write_text(json.dumps(job.as_json()), encoding="utf-8")
        self._logs = folder / "logs"
        self._logs.mkdir()
        self._start = start
        self._running: list[Process | None] = [None] * count
        self._seen, self._crashes = -1, 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes():
            process.terminate()
        end = time.monotonic() + STOP_TIMEOUT
        for process in self._processes():
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _processes(self) -> list[Process]:
        return [process for process in self._running if process is not None]

    def maintain(self, study: SweepStudy) -> None:
        """Start missing workers; trials of killed workers are retried.

        Raises:
            RuntimeError: `MAX_CRASHES` workers ended before starting a trial; contains the last line of their output.
        """
        for place, process in enumerate(self._running):
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                requeue_dead(study)
                self._check_status(process.returncode, place, study)
            if num_unfinished(study) and (process is None or process.returncode != DONE):
                self._running[place] = self._start(self._job, self._log(place))

    def _check_status(self, status: int | None, place: int, study: optuna.Study) -> None:
        begun = sum(RUN in trial.user_attrs for trial in study.get_trials(deepcopy=False))
        self._crashes = 0 if begun != self._seen or status in (DONE, REPLACE) else self._crashes + 1
        self._seen = begun
        if self._crashes >= MAX_CRASHES:
            said = self._log(place).read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"workers end with status {status} before their trial begins: {' '.join(said[-1:])}")

    def _log(self, place: int) -> Path:
        return self._logs / f"worker-{place + 1}.log"
