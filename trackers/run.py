"""The record of one job in MLflow: begun, filled and ended with the status that says how it went."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.entities import Run as RecordedRun
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from mrcnn.errors import InputError
from trackers.address import hide_credentials, how_to_open, run_url
from trackers.checkout import COMMIT, checkout_tags
from trackers.killed import keep_killed
from trackers.names import Names
from trackers.params import new_params
from trackers.plain import json_text
from trackers.stop import Pruned, StopSignals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROJECT = "mlflow.project.entryPoint"
"""The tag by which a run of `mlflow run` is known."""
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Without it MLflow's page opens the experiment as one of language models."""
RESUMED_RUN = "resumed_run"
"""Tag of a run of `mlflow run` whose command went on with an earlier one: that one's id."""
LONGEST_TAG = 5000
LONGEST_DATASET_DIGEST = 36
"""mlflow.utils.validation.MAX_DATASET_DIGEST_SIZE"""


@dataclass(frozen=True)
class Parent:
    """The run below which another stands, and its experiment."""

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
    """A run in the experiment named `task`; or the one that MLFLOW_RUN_ID names, in the experiment where it stands.

    With a `parent` it is a run below that one, in its experiment; where that is active here, it is so again after this.
    `resumed` is the id of an earlier run, which goes on; the one that MLFLOW_RUN_ID names then says so in its tag
    `resumed_run`.
    It ends FINISHED; KILLED after Ctrl-C or SIGTERM
    (`trackers.stop.Terminated`) and where it was `trackers.stop.Pruned`; FAILED after any other exception, whose
    message becomes the tag `error`. The exception goes on in each case. A stop that arrives while the run is being
    closed waits until it is. System metrics are on unless MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING says otherwise.

    Raises:
        InputError: MLFLOW_RUN_ID names no run of the store, or the experiment was deleted.
    """
    # MLflow prints the run's address at its end together with the password in it; `Run.how_to_open` has the clean one.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # Its progress bars would break into the training's own.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    described = {"task": task, "modality": modality, "seed": str(seed), "backend": backend, **(tags or {})}
    with StopSignals() as stop:
        run, of_mlflow_run = _start(task, run_name, described, parent, resumed)
        try:
            stop.release()
            yield run
            stop.hold()
        except BaseException as error:
            stop.hold()
            _end_after(error, run, of_mlflow_run)
            raise
        mlflow.end_run()


def _start(
    task: str, run_name: str | None, tags: dict[str, str], parent: Parent | None, resumed: str | None
) -> tuple[Run, bool]:
    """The active run, and whether it was begun by `mlflow run`."""
    client = MlflowClient()
    tags = {**checkout_tags(Path(__file__)), **tags}
    # None leaves the decision to the variable.
    system_metrics = None if "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING" in os.environ else True
    if parent is not None:
        # The variable would name the parent, or what stands above it.
        os.environ.pop("MLFLOW_RUN_ID", None)
        experiment_id, of_mlflow_run = parent.experiment_id, False
        tags[MLFLOW_PARENT_RUN_ID] = parent.run_id
    elif resumed is not None:
        if bystander := os.environ.pop("MLFLOW_RUN_ID", None):
            client.set_tag(bystander, RESUMED_RUN, resumed)
        experiment_id, of_mlflow_run = None, False
    elif run_id := os.environ.get("MLFLOW_RUN_ID"):
        present = _existing(client, run_id).data.tags
        if COMMIT in present:
            tags.pop(COMMIT, None)
        experiment_id, of_mlflow_run = None, PROJECT in present
    else:
        experiment_id, of_mlflow_run = _experiment(client, task), False
    if resumed is not None:
        present = _existing(client, resumed).data.tags
        # Why it ended before is no longer so; the code is that of its beginning.
        if "error" in present:
            client.delete_tag(resumed, "error")
        tags = {name: value for name, value in tags.items() if name not in (COMMIT, "git_dirty")}
    active = mlflow.start_run(
        run_id=resumed,
        experiment_id=experiment_id,
        run_name=run_name,
        tags=tags,
        log_system_metrics=system_metrics,
        nested=parent is not None,
    )
    run = Run(client, active.info.run_id, active.info.experiment_id, resumed=resumed is not None)
    return run, of_mlflow_run


def _existing(client: MlflowClient, run_id: str) -> RecordedRun:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        store = hide_credentials(mlflow.get_tracking_uri())
        raise InputError(f"MLFLOW_RUN_ID={run_id}: expected a run of the store {store}") from error


def _experiment(client: MlflowClient, name: str) -> str:
    """Id of the experiment, made if there is none; another process may be making it at the same time."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise InputError(
            f"experiment {name!r} was deleted: expected an active one "
            f"(mlflow experiments restore --experiment-id {found.experiment_id})"
        )
    return found.experiment_id


def _end_after(error: BaseException, run: Run, of_mlflow_run: bool) -> None:
    """Ends the run as `error` deserves. What goes wrong in doing so is noted on `error`, which is the news."""
    if isinstance(error, KeyboardInterrupt | Pruned):
        status = "KILLED"
    elif isinstance(error, SystemExit) and not error.code:
        status = "FINISHED"
    else:
        status = "FAILED"
    try:
        if status == "FAILED":
            run.tags({"error": hide_credentials(f"{type(error).__name__}: {error}")})
    except Exception as second:  # noqa: BLE001 the store may be what failed in the first place
        error.add_note(hide_credentials(f"The message could not be kept in the run: {second}"))
    try:
        mlflow.end_run(status)
        if status == "KILLED" and of_mlflow_run:
            keep_killed(run.id)
    except Exception as second:  # noqa: BLE001
        error.add_note(hide_credentials(f"MLflow run {run.id} could not be marked {status}: {second}"))


class Run:
    """What can be written into a run. Writing is done when a method returns.

    Metric and parameter names follow `trackers.names.tracked_name`. Files are named by their path among the run's
    artifacts, with / between folders.
    """

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str, *, resumed: bool = False) -> None:
        self._client = client
        self._resumed = resumed
        self.experiment_id = experiment_id
        self._names = Names()
        self.id = run_id

    def params(self, values: Mapping[str, object]) -> None:
        """Logs parameters by their dotted names, beside those that are already there (`trackers.params.new_params`)."""
        named = {self._names(name): value for name, value in values.items()}
        present = self._client.get_run(self.id).data.params
        new = [Param(name, value) for name, value in new_params(named, present).items()]
        self._client.log_batch(self.id, params=new)

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers at `step` (the epoch). In a resumed run those that stand there at that step are left alone."""
        now = int(time.time() * 1000)
        batch = [Metric(self._names(name), float(value), now, step) for name, value in values.items()]
        if self._resumed:
            batch = [metric for metric in batch if not self._is_logged(metric)]
        self._client.log_batch(self.id, metrics=batch)

    def _is_logged(self, metric: Metric) -> bool:
        return any(point.step == metric.step for point in self._client.get_metric_history(self.id, metric.key))

    def tags(self, values: Mapping[str, object]) -> None:
        """Sets tags; a longer value than MLflow keeps is cut."""
        self._client.log_batch(self.id, tags=[RunTag(name, str(value)[:LONGEST_TAG]) for name, value in values.items()])

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Copies a file, or a folder with all in it, into the artifact folder `folder`."""
        self._client.log_artifact(self.id, str(path), folder)

    def text(self, text: str, file: str) -> None:
        self._client.log_text(self.id, text, file)

    def json(self, value: object, file: str) -> None:
        """`value` of plain data and arrays; numbers that are not finite become null."""
        self.text(json_text(value), file)

    def figure(self, figure: Figure, file: str) -> None:
        """A Matplotlib figure; closing it is left to the caller."""
        self._client.log_figure(self.id, figure, file)

    def image(self, array: np.ndarray, file: str) -> None:
        """(H, W) or (H, W, 3) uint8 as `file`, whose ending tells the form (.png)."""
        self._client.log_image(self.id, array, file)

    def dataset(
        self, name: str, digest: str, profile: Mapping[str, object], context: str, *, source: str | None = None
    ) -> None:
        """Records what the run read as one of its inputs.

        Args:
            name: such as `thyroid phantoms`; `context` is added, for MLflow keeps one input a run of the same name and
                digest, and the splits of one data set may share both.
            digest: of the content; MLflow's column holds its beginning, the profile the whole.
            profile: plain data: counts, sizes, warnings.
            context: what it was for: `train`, `val`, `test`.
            source: path or address of the data, if there is one to go back to.
        """
        entity = Dataset(
            name=f"{name} ({context})",
            digest=digest[:LONGEST_DATASET_DIGEST],
            source_type="code" if source is None else "local",
            source=json_text({"tags": {}} if source is None else {"uri": hide_credentials(source)}, indent=None),
            profile=json_text({**profile, "digest": digest}, indent=None),
        )
        self._client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])])

    def url(self) -> str:
        """Address of the run's page (see `trackers.address.run_url`)."""
        return run_url(mlflow.get_tracking_uri(), self.experiment_id, self.id)

    def how_to_open(self) -> str:
        """The command that shows the run in a browser, or its address on a tracking server."""
        return how_to_open(mlflow.get_tracking_uri(), self.experiment_id, self.id)
