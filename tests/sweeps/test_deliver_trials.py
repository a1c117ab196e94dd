"""What a worker could not log before its trial ended is logged before the winner is taken from its run."""

import optuna

from sweeps import sweep
from sweeps.study import RUN


def test_only_runs_of_the_sweep_that_left_something_are_delivered(monkeypatch):
    study, delivered = optuna.create_study(), []
    for run_id in ("a" * 32, "b" * 32):
        study.ask().set_user_attr(RUN, run_id)
    study.ask()  # one that never began
    monkeypatch.setattr(sweep, "pending_runs", lambda: ["b" * 32, "c" * 32])
    monkeypatch.setattr(sweep, "upload_pending", delivered.append)
    sweep.deliver_trials(study)
    assert delivered == ["b" * 32]
