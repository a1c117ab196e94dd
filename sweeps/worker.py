"""Run trials of a study until none is left: `python -m sweeps.worker job.json`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.commands.command import quiet_libraries, silent_start
from experiments.config.schema import PLANNED_EPOCHS
from experiments.terminal import Terminal

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from experiments.training.training_data import Data
    from sweeps.study import SweepStudy
    from sweeps.training import Job

PAUSE = 1.0
"""Seconds between checks of a study whose last trials other workers run, and of the parent process."""
TRIALS_EACH = 6
"""Trials of one process: TensorFlow frees only a part of a trial's memory, and a start takes seconds."""
DONE, REPLACE = 0, 75
"""Exit statuses: no trial is left; or a new process should continue, because this one has run its trials, or a trial
failed with an error that may affect later ones."""


def run_worker(job: Job) -> int:
    """Run trials of `job` until none is left or `TRIALS_EACH` are done; return `DONE` or `REPLACE`.

    A failing trial does not end the worker. The data are read once. KeyboardInterrupt, which SIGTERM raises too,
    returns the running trial to the queue.

    Raises:
        InputError: the data are invalid.
    """
    from experiments.preparation.data_check import check_data
    from experiments.training.training_data import usable_data
    from sweeps.study import acquire_trial, num_unfinished, open_study
    from sweeps.study_identity import DECIDES, decides, require_same
    from trackers.runs.signals import SignalHandler

    console = Terminal()
    epochs = PLANNED_EPOCHS if job.config.train.epochs == "auto" else job.config.train.epochs
    study = open_study(job.storage, job.study, job.options, job.objectives, epochs=epochs)
    data, begun = None, 0
    with SignalHandler() as stop:
        stop.release()
        while True:
            trial = acquire_trial(study, job.options, job.config.seed)
            if trial is None:
                if not num_unfinished(study):
                    return DONE
                time.sleep(PAUSE)
                continue
            if data is None:
                checked = check_data(job.config)
                checked.raise_if_wrong()
                data = usable_data(checked, job.config)
                if DECIDES in study.user_attrs:
                    # The data can differ on another machine, or have changed since the sweep began.
                    require_same(study, decides(job.config, job.options, job.objectives, data))
            begun += 1
            if not attempt(study, trial, job, data, console) or begun == TRIALS_EACH:
                return REPLACE


def attempt(study: SweepStudy, trial: optuna.Trial, job: Job, data: Data, console: Console) -> bool:
    """Run one trial and report its result to the study; return False if this process should not run another one."""
    from optuna.trial import TrialState

    from experiments.training.callbacks import Diverged
    from mrcnn.errors import InputError
    from sweeps.study import REASON, heartbeat, interrupt
    from sweeps.training import Undefined, run_trial
    from trackers.runs.address import hide_credentials
    from trackers.runs.signals import Pruned

    with heartbeat(study, trial):
        try:
            values = run_trial(trial, job, data, console)
        except Pruned as pruned:
            console.print(f"Pruned at {pruned}", markup=False)
            study.tell(trial, state=TrialState.PRUNED)
            return True
        except KeyboardInterrupt:
            interrupt(study, trial, "the sweep was stopped")
            raise
        except Exception as error:  # noqa: BLE001 any error fails this trial only
            reason = hide_credentials(f"{type(error).__name__}: {error}")
            console.print(f"Failed: {reason}", markup=False)
            trial.set_user_attr(REASON, reason[:2000])
            study.tell(trial, state=TrialState.FAIL)
            return isinstance(error, Diverged | InputError | Undefined)
        study.tell(trial, values)
        return True


def end_with_parent() -> None:
    """End this process when its parent has ended, because its results would not be recorded."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PAUSE)
        # Not an exception: a training step can take long, and the trial is retried anyway.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Run trials of the `Job` in the JSON file `arguments[0]`; return the exit status."""
    end_with_parent()
    quiet_libraries()
    with silent_start():
        from mrcnn.errors import InputError
        from sweeps.training import Job
    try:
        return run_worker(Job.from_json(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))))
    except InputError as error:
        print(f"mrcnn: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
