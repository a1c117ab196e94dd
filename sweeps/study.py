"""Queue the trials of a study for any number of workers, and retry trials whose worker has ended.

Each requested training is a waiting trial in the study; the sampler draws its parameters when a worker acquires it. So
all workers together, whenever they start, run each trial exactly once.
"""

from __future__ import annotations

import copy
import hashlib
import os
import socket
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import Any

import numpy as np
import optuna
import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mrcnn.errors import InputError
from sweeps.options import SweepOptions, higher_is_better
from sweeps.run_endings import RETRIED_RUN, RUN, end_runs, note_end
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.address import hide_credentials
from trackers.runs.file_lock import file_lock

SQLITE = "sqlite:///"
HEARTBEAT, GRACE = 15, 120
"""Seconds between signs of life, and without one until a trial of another machine counts as interrupted."""
MAX_RETRIES = 2
"""A trial whose process is killed a third time is not retried: it is likely the reason."""
LOCK_TIMEOUT = 600
"""Seconds that a worker waits for the lock of the study, which is held for less than one."""
PLAN = "plan"
"""Attribute of a study: `experiments.training.planner.shared_settings` of its trials."""
WORKER, REASON, EPOCHS, RESUMED_AFTER = "worker", "reason", "epochs", "resumed_after"
"""User attributes of a trial: its process, why it failed, epochs trained, and the epoch after which a retry resumed."""


INTERRUPTED = "interrupted"
"""User attribute of a trial: whether it is retried."""
RETRY_ATTRIBUTES = ("failed_trial", "retry_history", "fixed_params")
"""System attributes that a retry needs: those of `RetryHeartbeatStaleTrialCallback`, and given parameters."""
RUNG = "completed_rung_"
"""Prefix of the system attributes that `HyperbandPruner` writes."""
NO_BRACKET = -1


def first_attempt(trial: FrozenTrial) -> int:
    """Return the number of the trial, or for a retry that of its first attempt."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def earlier_attempts(trial: FrozenTrial) -> list[int]:
    """Return the numbers of the trials that a retry repeats."""
    return RetryHeartbeatStaleTrialCallback.retry_history(trial)


class Brackets(optuna.pruners.HyperbandPruner):
    """Hyperband (Li et al. 2018) in which a retry replaces its first attempt.

    A retry that resumes from a checkpoint has the notes of the pruner of earlier epochs. Together with the interrupted
    attempt it would compete with itself, and by its own number it could be in another bracket. Optuna has no public way
    to assign a bracket.
    """

    def _get_bracket_id(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if trial.user_attrs.get(INTERRUPTED):
            return NO_BRACKET
        first = copy.copy(trial)
        first.number = first_attempt(trial)
        return super()._get_bracket_id(study, first)


def make_pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    """Create a pruner. Hyperband's brackets start at the first epoch and at later ones (Li et al. 2018).

    A quarter of the trials continues at each rung: with the usual third, a dozen trials of a dozen epochs save little.
    """
    if name == "hyperband":
        return Brackets(min_resource=1, max_resource=epochs, reduction_factor=4)
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1, n_min_trials=3)
    return optuna.pruners.NopPruner()


class SweepStudy(optuna.Study):
    """A study with access to its database, for what `optuna.Study` lacks: acquire a given trial, fail another's trial.

    Attributes:
        database: the storage of the study.
    """

    def __init__(self, name: str, database: RDBStorage, pruner: optuna.pruners.BasePruner) -> None:
        super().__init__(name, database, pruner=pruner)
        self.database = database

    def trial_id(self, number: int) -> int:
        """Return the key of a trial in the database."""
        study_id = self.database.get_study_id_from_name(self.study_name)
        return self.database.get_trial_id_from_study_id_trial_number(study_id, number)


def open_study(storage: str, name: str, options: SweepOptions, objectives: Sequence[str], *, epochs: int) -> SweepStudy:
    """Open the study `name` in the database `storage`; create it if it does not exist. A training has `epochs`.

    Raises:
        InputError: the database cannot be opened, or the study exists with other objectives.
    """
    _silence_optuna()
    directions = [StudyDirection.MAXIMIZE if higher_is_better(each) else StudyDirection.MINIMIZE for each in objectives]
    engine = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    try:
        with _sqlite_lock(storage):
            database = RDBStorage(
                storage,
                engine_kwargs=engine,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=requeue,
            )
            optuna.create_study(storage=database, study_name=name, directions=directions, load_if_exists=True)
            pruner = make_pruner(options.pruner if len(objectives) == 1 else "none", epochs)
            study = SweepStudy(name, database, pruner)
    except (ImportError, OSError, ValueError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(storage, error) from error
    except Exception as error:
        # SQLAlchemy is a dependency of Optuna, not of this project.
        if type(error).__module__.startswith("sqlalchemy"):
            raise _unusable(storage, error) from error
        raise
    if study.directions != directions:
        raise InputError(f"--study {name}: exists with other objectives in {hide_credentials(storage)}")
    study.set_metric_names(list(objectives))
    return study


def _unusable(storage: str, error: Exception) -> InputError:
    said = hide_credentials(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"--storage {hide_credentials(storage)}: expected a database of Optuna: {said}")


def _silence_optuna() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Create the sampler of trial `number`, seeded by it, so that other workers and restarts do not repeat a draw.

    Raises:
        InputError: `gp` without PyTorch.
    """
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if name == "gp":
        if find_spec("torch") is None:
            raise InputError("--sampler gp: needs PyTorch (pip install torch); expected tpe or random without")
        return optuna.samplers.GPSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own)


def refill_queue(study: optuna.Study, trials: int) -> int:
    """Add waiting trials until the study has `trials`, not counting retries; return how many were added."""
    missing = trials - sum(first_attempt(trial) == trial.number for trial in study.get_trials(deepcopy=False))
    for _ in range(missing):
        study.add_trial(optuna.create_trial(state=TrialState.WAITING))
    return max(missing, 0)


def num_unfinished(study: optuna.Study) -> int:
    """Count the trials that wait or run."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))


def acquire_trial(study: SweepStudy, options: SweepOptions, seed: int) -> optuna.Trial | None:
    """Acquire the next waiting trial, retries first; None if none is waiting."""
    try:
        with _study_lock(study):
            return _acquire(study, options, seed)
    finally:
        end_runs(study)


def _acquire(study: SweepStudy, options: SweepOptions, seed: int) -> optuna.Trial | None:
    _requeue_dead(study)
    optuna.storages.fail_stale_trials(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    # `study.ask` would take the oldest trial and draw its parameters before the sampler is seeded by its number.
    for frozen in sorted(waiting, key=lambda trial: (first_attempt(trial) == trial.number, trial.number)):
        trial_id = study.trial_id(frozen.number)
        try:
            # First the worker: a running trial without one would never be retried.
            study.database.set_trial_user_attr(trial_id, WORKER, this_process())
            acquired = study.database.set_trial_state_values(trial_id, state=TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue
        if acquired:
            study.database.set_trial_user_attr(trial_id, WORKER, this_process())
            study.database.record_heartbeat(trial_id)
            study.sampler = make_sampler(options.sampler, seed, frozen.number)
            return optuna.Trial(study, trial_id)
    return None


@contextmanager
def _study_lock(study: SweepStudy) -> Iterator[None]:
    """Exclude other processes, so that two workers do not acquire or retry the same trial.

    PostgreSQL has advisory locks, which end with their connection. SQLite reads the row of a trial without any lock, so
    that two workers can acquire it; a second database file, locked as a whole, excludes them, and its lock ends with
    the process. Other databases have no lock.
    """
    url = study.database.url
    if url.startswith("postgresql"):
        number = int.from_bytes(hashlib.sha256(study.study_name.encode()).digest()[:8], "big", signed=True)
        with study.database.engine.connect() as lock:
            # The server would notice only after hours that a machine with the lock has lost its connection.
            lock.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {1000 * GRACE}")
            lock.exec_driver_sql(f"SELECT pg_advisory_xact_lock({number})")
            yield
        return
    with _sqlite_lock(url):
        yield


def _sqlite_lock(url: str) -> AbstractContextManager[None]:
    """Lock a SQLite database by a file beside it, also while its tables are created; nothing for other databases."""
    if not url.startswith(SQLITE):
        return nullcontext()
    path = f"{url.removeprefix(SQLITE).partition('?')[0]}.lock"
    return file_lock(path, LOCK_TIMEOUT, TimeoutError(f"{path}: held by another worker for {LOCK_TIMEOUT} s"))


def this_process() -> dict[str, Any]:
    """Identify this process."""
    return process(os.getpid())


def process(pid: int) -> dict[str, Any]:
    """Identify a process of this machine by its number and start, because numbers are reused."""
    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}


def is_gone(worker: Mapping[str, Any]) -> bool:
    """Return whether a process of this machine has ended; False for one of another machine, whose state is unknown."""
    if worker["host"] != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(worker["pid"]))
        return found.create_time() != worker["started"] or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def requeue_dead(study: SweepStudy, limit: int | None = MAX_RETRIES) -> None:
    """Retry the trials of killed processes of this machine; `limit` as in `requeue`."""
    with _study_lock(study):
        _requeue_dead(study, limit)
    end_runs(study)


def _requeue_dead(study: SweepStudy, limit: int | None = MAX_RETRIES) -> None:
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = frozen.user_attrs.get(WORKER)
        if worker is not None and is_gone(worker):
            _interrupt(study, frozen, "the process that ran it was killed (out of memory?)", limit)
    # A process may have ended between failing a trial and adding its retry.
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in earlier_attempts(trial)}
    for frozen in trials:
        if frozen.state == TrialState.FAIL and frozen.user_attrs.get(INTERRUPTED) and frozen.number not in retried:
            requeue(study, copy.deepcopy(frozen), None)


def interrupt(study: SweepStudy, trial: optuna.Trial, reason: str) -> None:
    """Fail the trial of this process, which is stopped, and add its retry."""
    with _study_lock(study):
        _interrupt(study, study.database.get_trial(study.trial_id(trial.number)), reason, None)
    end_runs(study)


def _interrupt(study: SweepStudy, trial: FrozenTrial, reason: str, limit: int | None) -> None:
    trial_id = study.trial_id(trial.number)
    try:
        study.database.set_trial_user_attr(trial_id, REASON, reason)
        study.database.set_trial_user_attr(trial_id, INTERRUPTED, _can_retry(trial, limit))
        study.database.set_trial_state_values(trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return  # another process has done so
    requeue(study, copy.deepcopy(study.database.get_trial(trial_id)), limit)


def _can_retry(trial: FrozenTrial, limit: int | None) -> bool:
    return limit is None or len(earlier_attempts(trial)) < limit


def requeue(study: optuna.Study, trial: FrozenTrial, limit: int | None = MAX_RETRIES) -> None:
    """Add a retry of an interrupted and failed trial with its parameters; note the end of its run.

    If its training left a checkpoint on this machine, the retry resumes from it with the reported values and the notes
    of the pruner; otherwise it starts again. After `limit` retries the trial remains failed.
    """
    run, can_retry = trial.user_attrs.get(RUN), _can_retry(trial, limit)
    if run is not None:
        reason = str(trial.user_attrs.get(REASON, "no sign of life"))
        note_end(study, run, "KILLED" if can_retry else "FAILED", reason)
    if run is not None and not can_retry:
        Unfinished(run).remove()
    resumes = run is not None and bool(Unfinished(run).states.epochs())
    trial.user_attrs = {} if run is None else {RETRIED_RUN: run}
    for name in list(trial.system_attrs):
        if name not in RETRY_ATTRIBUTES and not (resumes and name.startswith(RUNG)):
            del trial.system_attrs[name]
    RetryHeartbeatStaleTrialCallback(max_retry=limit, inherit_intermediate_values=resumes)(study, trial)


@contextmanager
def heartbeat(study: SweepStudy, trial: optuna.Trial) -> Iterator[None]:
    """Record heartbeats of a trial from a thread during the body."""
    over, trial_id = threading.Event(), study.trial_id(trial.number)

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            # The heartbeats survive a database that is unreachable for a moment; else another worker would retry.
            with suppress(StorageInternalError):
                study.database.record_heartbeat(trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def outcomes(study: optuna.Study) -> list[FrozenTrial]:
    """Return the last attempt of each trial, in the order of their first attempts."""
    last: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        last[first_attempt(trial)] = trial
    return [last[number] for number in sorted(last)]
