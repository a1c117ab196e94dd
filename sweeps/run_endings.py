"""End the MLflow runs of interrupted trials: ends are saved in the study until the tracking server is reachable."""

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
"""User attributes of a trial: its MLflow run, and for a retry the run of the interrupted attempt."""
NOTED = "end_of_run:"
"""Prefix of the attributes of the study with status, reason and time of the end of a run."""
PAUSE = 30.0
"""Seconds between an attempt that failed and the next one."""
_next_attempt = 0.0


def note_end(study: optuna.Study, run: str, status: str, reason: str) -> None:
    """Save the end of a run in the study; this needs no tracking server, so the study may be locked."""
    study.set_user_attr(f"{NOTED}{run}", [status, reason, int(time.time() * 1000)])


def noted_ends(study: optuna.Study) -> dict[str, tuple[str, str, int]]:
    """Return status, reason and time of each run that has yet to be ended."""
    found = study.user_attrs
    return {name.removeprefix(NOTED): tuple(end) for name, end in found.items() if name.startswith(NOTED) and end}


def end_runs(study: optuna.Study, *, now: bool = False) -> None:
    """End the saved runs that are still RUNNING, with one attempt each; with `now` also just after a failed attempt.

    A run that a retry has resumed is not ended. If the tracking server is unreachable, the ends remain saved. The study
    must not be locked, because this can take seconds.
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
                # None: it has been resumed or deleted.
                if found is not None and found.info.status == "RUNNING":
                    client.set_tag(run, "error", reason)
                    client.set_terminated(run, status, when)
        except (MlflowException, requests.RequestException) as error:
            # Unreachable or refused: the end remains saved; finally `mrcnn sync` reports which.
            _log.warning("run %s: its end %s cannot be recorded yet (%s)", run, status, reason_of(error))
            _next_attempt = time.monotonic() + PAUSE
            return
        study.set_user_attr(f"{NOTED}{run}", None)


def leave_ends(study: optuna.Study) -> None:
    """End the saved runs after the last trial; ends that cannot be recorded are left for `mrcnn sync`."""
    end_runs(study, now=True)
    for run, (status, reason, when) in noted_ends(study).items():
        folder = pending_folder() / run
        # A process that holds it records its end itself.
        with suppress(Held), hold(folder, "held"):
            queue = RecordQueue(folder)
            queue.name_store(without_credentials(mlflow.get_tracking_uri()))
            queue.append({KIND: TAGS, "values": {"error": hide_credentials(reason)}})
            queue.append({KIND: END, "status": status, "time": when})
        study.set_user_attr(f"{NOTED}{run}", None)
        upload_pending(run)
