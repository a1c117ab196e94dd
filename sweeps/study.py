"""The study: who takes which trial, and what becomes of one whose worker is gone.

A sweep's budget is a queue. Every training that is wanted stands in the study as a waiting trial, whose parameters the
sampler draws when a worker takes it. So any number of workers, started at any time, together run each once and no more.
"""

from __future__ import annotations

import copy
import hashlib
import os
import socket
import sqlite3
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import numpy as np
import optuna
import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from mrcnn.errors import InputError
from sweeps.brackets import FAILED_TRIAL, INTERRUPTED, RETRY_HISTORY, RUNG, make_pruner
from sweeps.options import SweepOptions, higher_is_better
from sweeps.run_endings import RETRIED_RUN, RUN, end_runs, note_end
from trackers.checkpoints.unfinished_runs import Unfinished
from trackers.runs.address import hide_credentials
from trackers.runs.file_lock import file_lock

SQLITE = "sqlite:///"
HEARTBEAT, GRACE = 15, 120
"""Seconds between signs of life, and without one until a trial of another machine counts as interrupted."""
MOST_RETRIES = 2
"""A trial whose process is killed a third time is not tried again: it is likely what kills it."""
PATIENCE = 600
"""Seconds that a worker waits for its turn at the trials; what is done in it takes less than one."""
WORKER, REASON, EPOCHS, RESUMED_AFTER = "worker", "reason", "epochs", "resumed_after"
"""User attributes of a trial: who runs it, why it failed, epochs trained, of a retry the epoch after which it began."""


def open_study(
    storage: str, name: str, options: SweepOptions, objectives: Sequence[str], *, epochs: int
) -> optuna.Study:
    """The study `name` in the database `storage`, made if it is not there.

    Args:
        objectives: metrics, whose better direction is known.
        epochs: of a whole training.

    Raises:
        InputError: the database cannot be opened, or the study there has other objectives.
    """
    _quiet()
    directions = ["maximize" if higher_is_better(each) else "minimize" for each in objectives]
    engine = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    try:
        with _one_maker(storage):
            database = RDBStorage(
                storage,
                engine_kwargs=engine,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=requeue,
            )
            study = optuna.create_study(
                storage=database,
                study_name=name,
                directions=directions,
                pruner=make_pruner(options.pruner if len(objectives) == 1 else "none", epochs),
                load_if_exists=True,
            )
    except (ImportError, OSError, ValueError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(storage, error) from error
    except Exception as error:
        # SQLAlchemy's, which is Optuna's choice of library and not ours.
        if type(error).__module__.startswith("sqlalchemy"):
            raise _unusable(storage, error) from error
        raise
    if [direction.name.lower() for direction in study.directions] != directions:
        raise InputError(f"--study {name}: is there with other objectives in {hide_credentials(storage)}")
    study.set_metric_names(list(objectives))
    return study


def _unusable(storage: str, error: Exception) -> InputError:
    said = hide_credentials(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"--storage {hide_credentials(storage)}: expected a database of Optuna's: {said}")


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def make_sampler(name: str, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler that draws trial `number`: seeded by it, so that neither another worker nor a restart repeats a draw.

    Raises:
        InputError: `gp` without PyTorch.
    """
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return optuna.samplers.RandomSampler(seed=own)
    if name == "gp":
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise InputError(
                "--sampler gp: needs PyTorch (pip install torch); expected tpe or random without"
            ) from error
        return optuna.samplers.GPSampler(seed=own)
    return optuna.samplers.TPESampler(seed=own)


def refill_queue(study: optuna.Study, trials: int) -> int:
    """Put waiting trials into the study until it has `trials`, retries not counted; returns how many were put in."""
    missing = trials - sum(FAILED_TRIAL not in trial.system_attrs for trial in study.get_trials(deepcopy=False))
    for _ in range(missing):
        study.add_trial(optuna.create_trial(state=TrialState.WAITING))
    return max(missing, 0)


def left(study: optuna.Study) -> int:
    """Trials that wait or run."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING)))


def acquire_trial(study: optuna.Study, options: SweepOptions, seed: int) -> optuna.Trial | None:
    """The next waiting trial, which is then nobody else's, interrupted ones first; None when none waits."""
    try:
        with _study_lock(study):
            return _claim(study, options, seed)
    finally:
        end_runs(study)


def _claim(study: optuna.Study, options: SweepOptions, seed: int) -> optuna.Trial | None:
    _requeue_dead(study)
    optuna.storages.fail_stale_trials(study)
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    for frozen in sorted(waiting, key=lambda trial: (FAILED_TRIAL not in trial.system_attrs, trial.number)):
        number = frozen.number
        try:
            # First: a trial that runs and is nobody's would run for ever.
            study._storage.set_trial_user_attr(frozen._trial_id, WORKER, this_process())
            taken = study._storage.set_trial_state_values(frozen._trial_id, state=TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            continue
        if taken:
            study._storage.set_trial_user_attr(frozen._trial_id, WORKER, this_process())
            study._storage.record_heartbeat(frozen._trial_id)
            study.sampler = make_sampler(options.sampler, seed, number)
            return optuna.Trial(study, frozen._trial_id)
    return None


@contextmanager
def _study_lock(study: optuna.Study) -> Iterator[None]:
    """Nobody else is in here at the same time: two workers might both queue the trial of a third again.

    PostgreSQL has locks by number for that, which end with their connection. SQLite besides reads the row of a trial
    that is being taken without any lock, and two workers might both find it waiting; a second database file, locked as
    a whole, ends with the process, however that ends. Of other databases nobody is kept out.
    """
    url = study._storage._backend.url
    if url.startswith("postgresql"):
        number = int.from_bytes(hashlib.sha256(study.study_name.encode()).digest()[:8], "big", signed=True)
        with study._storage._backend.engine.connect() as lock:
            # Of a machine that is cut off in here the server would not hear for hours.
            lock.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {1000 * GRACE}")
            lock.exec_driver_sql(f"SELECT pg_advisory_xact_lock({number})")
            yield
        return
    if not url.startswith(SQLITE):
        yield
        return
    with _one_maker(url):
        yield


def _one_maker(url: str) -> AbstractContextManager[None]:
    """The lock beside a SQLite file, also while its tables are made; of other databases none."""
    if not url.startswith(SQLITE):
        return nullcontext()
    path = f"{url.removeprefix(SQLITE).partition('?')[0]}.lock"
    return file_lock(path, PATIENCE, TimeoutError(f"{path}: held by another worker for {PATIENCE} s"))


def this_process() -> dict[str, object]:
    """This process, so that it is not taken for a later one with the same number."""
    return process(os.getpid())


def process(pid: int) -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}


def is_gone(who: dict[str, object]) -> bool:
    """Whether a process of this machine has ended; False for one of another machine, of which nothing is known."""
    if who["host"] != socket.gethostname():
        return False
    try:
        found = psutil.Process(int(who["pid"]))
        return found.create_time() != who["started"] or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def requeue_dead(study: optuna.Study, limit: int | None = MOST_RETRIES) -> None:
    """Queue again what processes of this machine ran that were killed; `limit` as in `requeue`."""
    with _study_lock(study):
        _requeue_dead(study, limit)
    end_runs(study)


def _requeue_dead(study: optuna.Study, limit: int | None = MOST_RETRIES) -> None:
    for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        who = frozen.user_attrs.get(WORKER)
        if who is not None and is_gone(who):
            _interrupt(study, frozen, "the process that ran it was killed (out of memory?)", limit)
    # A process may have ended between failing a trial and queueing it again.
    trials = study.get_trials(deepcopy=False)
    retried = {number for trial in trials for number in trial.system_attrs.get(RETRY_HISTORY, [])}
    for frozen in trials:
        if frozen.state == TrialState.FAIL and frozen.user_attrs.get(INTERRUPTED) and frozen.number not in retried:
            requeue(study, copy.deepcopy(frozen), None)


def interrupt(study: optuna.Study, trial: optuna.Trial, reason: str) -> None:
    """Fail this process's trial, which is stopped, and queue it again."""
    with _study_lock(study):
        _interrupt(study, study._storage.get_trial(trial._trial_id), reason, None)
    end_runs(study)


def _interrupt(study: optuna.Study, trial: FrozenTrial, reason: str, limit: int | None) -> None:
    try:
        study._storage.set_trial_user_attr(trial._trial_id, REASON, reason)
        study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, _again(trial, limit))
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return  # another process has done so
    requeue(study, copy.deepcopy(study._storage.get_trial(trial._trial_id)), limit)


def _again(trial: FrozenTrial, limit: int | None) -> bool:
    return limit is None or len(trial.system_attrs.get(RETRY_HISTORY, [])) < limit


def requeue(study: optuna.Study, trial: FrozenTrial, limit: int | None = MOST_RETRIES) -> None:
    """Put an interrupted trial, which has been failed, back into the queue with its parameters; note its run's end.

    Where its training kept a state on this machine it goes on from there, and takes along what it has reported and what
    the pruner noted of it. Otherwise it starts from its beginning. After `limit` retries it stays failed.
    """
    run, again = trial.user_attrs.get(RUN), _again(trial, limit)
    if run is not None:
        note_end(study, run, "KILLED" if again else "FAILED", str(trial.user_attrs.get(REASON, "no sign of life")))
    if run is not None and not again:
        Unfinished(run).remove()
    goes_on = run is not None and bool(Unfinished(run).states.epochs())
    trial.user_attrs = {} if run is None else {RETRIED_RUN: run}
    kept = (FAILED_TRIAL, RETRY_HISTORY, "fixed_params")
    for name in [name for name in trial.system_attrs if name not in kept and not (goes_on and name.startswith(RUNG))]:
        del trial.system_attrs[name]
    RetryHeartbeatStaleTrialCallback(max_retry=limit, inherit_intermediate_values=goes_on)(study, trial)


@contextmanager
def heartbeat(study: optuna.Study, trial: optuna.Trial) -> Iterator[None]:
    """Signs of life in the study while the body runs, from a thread."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT):
            # A database that is away or busy for a moment must not end the signs: another worker would take the trial.
            with suppress(StorageInternalError):
                study._storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def slot(trial: FrozenTrial) -> int:
    """The number of the trial of which this one is a retry, or its own."""
    return trial.system_attrs.get(FAILED_TRIAL, trial.number)


def outcomes(study: optuna.Study) -> list[FrozenTrial]:
    """The last attempt of each trial, in their order."""
    last: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        last[slot(trial)] = trial
    return [last[number] for number in sorted(last)]
