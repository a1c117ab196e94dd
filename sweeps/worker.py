"""A worker: joins a study, runs trials until none is left, and ends. Whoever starts it hands it the job, no more.

`python -m sweeps.worker job.json` is how a sweep starts one on this machine.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.commands.exit_status import quiet_libraries, silent_start

if TYPE_CHECKING:
    import optuna
    from rich.console import Console

    from experiments.training.training_data import Data
    from sweeps.training import Job

PAUSE = 1.0
"""Seconds between looks at a study whose last trials others run, and at whether the parent process is there."""
TRIALS_EACH = 6
"""Trials of one process: TensorFlow gives back only a part of a trial's memory, and a start takes seconds."""
DONE, REPLACE = 0, 75
"""Exit statuses: no trial is left; a new process should go on, for this one has run its trials, or one of them failed
in a way that may have harmed it."""


def run_worker(job: Job) -> int:
    """Run trials of `job`, each failing alone, until none is left or `TRIALS_EACH` are done; `DONE` or `REPLACE`.

    The data are read once. KeyboardInterrupt, which SIGTERM raises too, puts the trial under way back into the queue.

    Raises:
        InputError: the data are bad.
    """
    from rich.console import Console

    from experiments.preparation.data_check import check_data
    from experiments.training.training_data import usable_data
    from sweeps.study import acquire_trial, left, open_study
    from sweeps.study_identity import DECIDES, decides, require_same
    from trackers.runs.signals import SignalHandler

    console = Console(highlight=False)
    study = open_study(job.storage, job.study, job.options, job.objectives, epochs=job.config.train.epochs)
    data, begun = None, 0
    with SignalHandler() as stop:
        stop.release()
        while True:
            trial = acquire_trial(study, job.options, job.config.seed)
            if trial is None:
                if not left(study):
                    return DONE
                time.sleep(PAUSE)
                continue
            if data is None:
                checked = check_data(job.config)
                checked.raise_if_wrong()
                data = usable_data(checked, job.config)
                if DECIDES in study.user_attrs:
                    # Of another machine, or changed since the sweep began.
                    require_same(study, decides(job.config, job.options, job.objectives, data))
            begun += 1
            if not attempt(study, trial, job, data, console) or begun == TRIALS_EACH:
                return REPLACE


def attempt(study: optuna.Study, trial: optuna.Trial, job: Job, data: Data, console: Console) -> bool:
    """Run one trial and tell the study how it went; False where this process should not run another one."""
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
        except Pruned as news:
            console.print(f"Pruned at {news}", markup=False, soft_wrap=True)
            study.tell(trial, state=TrialState.PRUNED)
            return True
        except KeyboardInterrupt:
            interrupt(study, trial, "the sweep was stopped")
            raise
        except Exception as error:  # noqa: BLE001 whatever it is, the trial fails alone and says why
            reason = hide_credentials(f"{type(error).__name__}: {error}")
            console.print(f"Failed: {reason}", markup=False, soft_wrap=True)
            study._storage.set_trial_user_attr(trial._trial_id, REASON, reason[:2000])
            study.tell(trial, state=TrialState.FAIL)
            return isinstance(error, Diverged | InputError | Undefined)
        study.tell(trial, values)
        return True


def end_with_parent() -> None:
    """End this process when the one that started it is gone: nobody would record what it does."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PAUSE)
        # Not by an exception: a step of the training may take long, and the trial is retried anyway.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
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
