"""The queue of trials: each is taken once, what was interrupted comes back, nothing else does."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from mrcnn.errors import InputError
from sweeps.options import SweepOptions
from sweeps.study import (
    MAX_RETRIES,
    NO_BRACKET,
    RUN,
    WORKER,
    acquire_trial,
    first_attempt,
    heartbeat,
    interrupt,
    is_gone,
    make_sampler,
    num_unfinished,
    open_study,
    outcomes,
    process,
    refill_queue,
    requeue_dead,
    this_process,
)
from trackers.checkpoints.unfinished_runs import Unfinished

OPTIONS = SweepOptions(sampler="random")


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path}/sweeps.db"


@pytest.fixture
def study(address):
    return open_study(address, "s", OPTIONS, ["dice"], epochs=9)


@pytest.fixture
def killed():
    """A process that was killed a moment ago."""
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    who = process(running.pid)
    assert not is_gone(who)
    running.kill()
    running.wait()
    return who


def test_each_trial_is_handed_out_once_and_no_more_than_wanted(study):
    assert refill_queue(study, 3) == 3
    assert refill_queue(study, 3) == 0
    trials = [acquire_trial(study, OPTIONS, 0) for _ in range(4)]
    assert [trial and trial.number for trial in trials] == [0, 1, 2, None]
    assert num_unfinished(study) == 3
    assert refill_queue(study, 5) == 2


def _take_all(address, taken):
    study = open_study(address, "s", OPTIONS, ["dice"], epochs=9)
    while (trial := acquire_trial(study, OPTIONS, 0)) is not None:
        taken.put((trial.number, trial.suggest_float("x", 0, 1)))
        study.tell(trial, 1.0)


@pytest.mark.slow
def test_workers_at_once_take_each_trial_once(study, address, monkeypatch, request):
    monkeypatch.syspath_prepend(request.config.rootpath)  # where the workers find this module
    refill_queue(study, 24)
    spawn = multiprocessing.get_context("spawn")
    taken = spawn.Queue()
    workers = [spawn.Process(target=_take_all, args=(address, taken)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [taken.get(timeout=60) for _ in range(24)]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert sorted(number for number, _ in found) == list(range(24))
    assert taken.empty()
    assert len({x for _, x in found}) == 24  # no worker repeats the draws of another


def test_a_draw_depends_on_the_trial_alone():
    def draw(number, name):
        study = optuna.create_study(sampler=make_sampler(name, 7, number))
        return study.ask().suggest_float("x", 0, 1)

    for name in ("random", "tpe"):
        assert draw(3, name) == draw(3, name) != draw(4, name)


def test_a_trial_whose_process_was_killed_comes_back_with_its_parameters(study, killed):
    refill_queue(study, 2)
    first = acquire_trial(study, OPTIONS, 0)
    x = first.suggest_float("x", 0, 1)
    first.report(0.5, 1)
    first.should_prune()
    first.set_user_attr(WORKER, killed)
    again = acquire_trial(study, OPTIONS, 0)
    assert again.number == 2  # before trial 1, which has not begun
    assert again.suggest_float("x", 0, 1) == x
    assert study.trials[0].state == TrialState.FAIL
    assert study.trials[2].intermediate_values == {}
    assert [name for name in study.trials[2].system_attrs if name.startswith("completed_rung")] == []
    assert first_attempt(study.trials[2]) == 0
    assert refill_queue(study, 2) == 0  # a retry is no further trial
    assert [trial.number for trial in outcomes(study)] == [2, 1]


def test_a_trial_that_goes_on_from_a_state_reports_nothing_twice(tmp_path, address, killed, monkeypatch):
    """Hyperband compares all values of a rung, so each must be there once."""
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    options = SweepOptions(sampler="random", pruner="hyperband")
    study = open_study(address, "s", options, ["dice"], epochs=9)
    refill_queue(study, 1)
    first = acquire_trial(study, options, 0)
    x = first.suggest_float("x", 0, 1)
    first.set_user_attr(RUN, "a" * 32)
    for epoch, value in enumerate([0.5, 0.6], start=1):
        first.report(value, epoch)
        first.should_prune()
    Unfinished("a" * 32).states.save(2, Path.touch, {})
    first.set_user_attr(WORKER, killed)
    again = acquire_trial(study, options, 0)
    assert again.number == 1 and again.suggest_float("x", 0, 1) == x
    attempt, retry = study.trials
    assert retry.intermediate_values == {1: 0.5, 2: 0.6}
    noted = {name: value for name, value in attempt.system_attrs.items() if name.startswith("completed_rung")}
    assert noted.items() <= retry.system_attrs.items()
    pruner = study.pruner
    brackets = [pruner._get_bracket_id(study, trial) for trial in study.trials]
    assert brackets[0] == NO_BRACKET
    # The retry is where its first attempt was.
    alone = optuna.trial.create_trial(state=TrialState.WAITING)
    alone.number = attempt.number
    assert brackets[1] == pruner._get_bracket_id(study, alone)


def test_what_is_not_tried_again_keeps_no_state(study, killed, tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_CACHE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    refill_queue(study, 1)
    Unfinished("a" * 32).states.save(1, Path.touch, {})
    for _ in range(MAX_RETRIES + 1):
        assert Unfinished("a" * 32).states.epochs() == [1]
        trial = acquire_trial(study, OPTIONS, 0)
        trial.set_user_attr(RUN, "a" * 32)
        trial.set_user_attr(WORKER, killed)
    requeue_dead(study)
    assert not Unfinished("a" * 32).folder.exists()


def test_a_living_process_keeps_its_trial(study):
    refill_queue(study, 1)
    acquire_trial(study, OPTIONS, 0).set_user_attr(WORKER, this_process())
    requeue_dead(study)
    assert acquire_trial(study, OPTIONS, 0) is None


def test_what_kills_its_process_again_and_again_stays_failed(study, killed):
    refill_queue(study, 1)
    for _ in range(MAX_RETRIES + 1):
        acquire_trial(study, OPTIONS, 0).set_user_attr(WORKER, killed)
    requeue_dead(study)
    assert num_unfinished(study) == 0
    assert "killed" in outcomes(study)[0].user_attrs["reason"]


def test_a_stopped_trial_comes_back_however_often(study):
    refill_queue(study, 1)
    for _ in range(MAX_RETRIES + 3):
        interrupt(study, acquire_trial(study, OPTIONS, 0), "the sweep was stopped")
    assert num_unfinished(study) == 1


def test_a_stop_that_breaks_off_half_way_loses_no_trial(study, monkeypatch):
    refill_queue(study, 1)
    trial = acquire_trial(study, OPTIONS, 0)

    def break_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("sweeps.study.requeue", break_off)
        interrupt(study, trial, "the sweep was stopped")
    assert num_unfinished(study) == 0
    for _ in range(2):
        requeue_dead(study)
        assert num_unfinished(study) == 1


def test_the_interrupted_run_ends_killed_and_the_last_failed(study, killed, tmp_path, monkeypatch, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    refill_queue(study, 1)
    runs = []
    for _ in range(MAX_RETRIES + 1):
        trial = acquire_trial(study, OPTIONS, 0)
        runs.append(client.create_run("0").info.run_id)
        trial.set_user_attr(RUN, runs[-1])
        trial.set_user_attr(WORKER, killed)
    requeue_dead(study)
    assert [client.get_run(run).info.status for run in runs] == ["KILLED", "KILLED", "FAILED"]
    assert "killed" in client.get_run(runs[-1]).data.tags["error"]


def test_another_objective_is_another_study(study, address):
    with pytest.raises(InputError, match="other objectives"):
        open_study(address, "s", OPTIONS, ["hd95"], epochs=9)


@pytest.mark.parametrize("bad", ["sqlite:////nowhere/at/all.db", "nonsense", "postgresql://me:secret@localhost:1/x"])
def test_a_bad_database_is_told_in_one_line_without_its_password(bad):
    with pytest.raises(InputError) as error:
        open_study(bad, "s", OPTIONS, ["dice"], epochs=9)
    assert "--storage" in str(error.value)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_a_lock_ends_with_its_process(study, address):
    # Held by a process that is killed in the middle of it.
    code = (
        "import sqlite3, time; lock = sqlite3.connect(input(), isolation_level=None)\n"
        "lock.execute('BEGIN EXCLUSIVE'); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdin.write(address.removeprefix("sqlite:///") + ".lock\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    refill_queue(study, 1)
    assert acquire_trial(study, OPTIONS, 0).number == 0


def test_the_gaussian_process_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="--sampler gp: needs PyTorch"):
        make_sampler("gp", 0, 0)


def test_signs_of_life_outlast_a_database_that_is_away_for_a_moment(study, monkeypatch):
    refill_queue(study, 1)
    trial, calls, again = acquire_trial(study, OPTIONS, 0), [], threading.Event()
    record = study.database.record_heartbeat

    def away_twice(trial_id):
        calls.append(trial_id)
        if len(calls) <= 2:
            raise optuna.exceptions.StorageInternalError("the server is starting up")
        record(trial_id)
        again.set()

    monkeypatch.setattr("sweeps.study.HEARTBEAT", 0.01)
    monkeypatch.setattr(study.database, "record_heartbeat", away_twice)
    with heartbeat(study, trial):
        assert again.wait(30)
