"""The ends of MLflow runs whose trials were interrupted: noted in the study, delivered when the store answers."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import mlflow
import optuna
import requests
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState

from trackers.checkpoints.unfinished_runs import Held, hold, recorded
from trackers.offline.pending_records import pending_folder, upload_pending
from trackers.offline.record_queue import RecordQueue
from trackers.offline.server import one_attempt
from trackers.offline.server import reason as reason_of
from trackers.offline.uploader import END, KIND, TAGS
from trackers.runs.address import hide_credentials, without_credentials

_log = logging.getLogger(__name__)

RUN, RETRIED_RUN = "run", "retried_run"
"""User attributes of a trial: its MLflow run; of a retry also the run of the attempt that was interrupted."""
NOTED = "end_of_run:"
"""How the names of those attributes of the study begin that hold the status and the reason of a run's end."""
PAUSE = 30.0
"""Seconds without an attempt after one that failed."""
_next_attempt = 0.0


def note_end(study: optuna.Study, run: str, status: str, reason: str) -> None:
    """Note how a run ends. It needs the study alone, so it may be done with the study locked."""
    study.set_user_attr(f"{NOTED}{run}", [status, reason, int(time.time() * 1000)])


def noted_ends(study: optuna.Study) -> dict[str, tuple[str, str, int]]:
    """Status, reason and time of each run that is still to be ended."""
    found = study.user_attrs
    return {name.removeprefix(NOTED): tuple(end) for name, end in found.items() if name.startswith(NOTED) and end}


def end_runs(study: optuna.Study, *, now: bool = False) -> None:
    """End the noted runs that are still RUNNING, in one attempt each. A run that another attempt has taken up goes on;
    where the store does not answer the notes stay. Never to be called with the study locked, for it may take seconds.

    Args:
        now: also right after an attempt that failed.
    """
    global _next_attempt
    if (not now and time.monotonic() < _next_attempt) or not (ends := noted_ends(study)):
        return
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    taken_up = {trial.user_attrs.get(RUN) for trial in running}
    undecided = {trial.user_attrs.get(RETRIED_RUN) for trial in running if RUN not in trial.user_attrs}
    client = mlflow.MlflowClient()
    for run, (status, reason, when) in ends.items():
        if run in undecided:
            continue
        try:
            with one_attempt():
                found = None if run in taken_up else recorded(client, run)
                # None: it goes on, or was deleted.
                if found is not None and found.info.status == "RUNNING":
                    client.set_tag(run, "error", reason)
                    client.set_terminated(run, status, when)
        except (MlflowException, requests.RequestException) as error:
            # Away or refused: the note stays, and at last `mrcnn sync` tells which.
            _log.warning("run %s: its end %s cannot be recorded yet (%s)", run, status, reason_of(error))
            _next_attempt = time.monotonic() + PAUSE
            return
        study.set_user_attr(f"{NOTED}{run}", None)


def leave_ends(study: optuna.Study) -> None:
    """End the noted runs, no trial of which is running any more; those that cannot be are left for `mrcnn sync`."""
    end_runs(study, now=True)
    for run, (status, reason, when) in noted_ends(study).items():
        folder = pending_folder() / run
        # A process that has it delivers its end itself.
        with suppress(Held), hold(folder, "held"):
            journal = RecordQueue(folder)
            journal.name_store(without_credentials(mlflow.get_tracking_uri()))
            journal.append({KIND: TAGS, "values": {"error": hide_credentials(reason)}})
            journal.append({KIND: END, "status": status, "time": when})
        study.set_user_attr(f"{NOTED}{run}", None)
        upload_pending(run)
