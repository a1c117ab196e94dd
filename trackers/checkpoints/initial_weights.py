"""Download the model that a training starts from, where a run or the registry has it."""

from __future__ import annotations

import re
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from mrcnn.errors import InputError
from trackers.checkpoints.checkpoint_store import BEST, LAST
from trackers.runs.address import hide_credentials
from trackers.runs.local_store import make_store

LAST_RUN, ANY_TASK = "last", "any"
MODEL = "mask_rcnn"
"""Tag `model` of the runs that train a Mask R-CNN; baselines have others. Older runs have no such tag."""
RUN_ID = re.compile(r"[0-9a-f]{32}")
CHECKPOINTS = "checkpoints"
PACKAGE = "package"
"""Tag of a run that contains several trainings: the address of the model registered from them."""


def model_file(spec: str, *, task: str, folder: Path, option: str = "weights") -> str:
    """Download the `.keras` file that `spec` names into `folder`; return any other `spec` unchanged.

    - `last`: the best checkpoint of the newest finished run of `task`, or of any, that has one;
    - `runs:/<id>` or a run's id: its best checkpoint, or its last one where it had no best;
    - `runs:/<id>/<path>`: that file, or the packaged model in that folder;
    - `models:/<name>@<alias>`, `models:/<name>/<version>`: the packaged model's.

    Args:
        spec: file, run or registered model.
        task: whose runs `last` searches.
        folder: for the download.
        option: name of the option, for messages.

    Raises:
        InputError: the store has no such run or model, or it has no `.keras` file or those of an ensemble.
    """
    files = model_files(spec, task=task, folder=folder, option=option)
    if len(files) != 1:
        raise InputError(f"{option}={spec}: is an ensemble of {len(files)} networks; expected a single one")
    return files[0]


def model_files(spec: str, *, task: str, folder: Path, option: str = "weights") -> list[str]:
    """Download as `model_file` does; of an ensemble, all of its files."""
    option_text = f"{option}={spec}"
    run_id = run_of(spec, task=task, option=option)
    if run_id is not None:
        return _of_run(run_id, folder, option_text)
    return _download(spec, folder, option_text) if spec.startswith(("runs:/", "models:/")) else [spec]


def run_of(spec: str, *, task: str, option: str = "weights") -> str | None:
    """Return the id of the run whose checkpoint `spec` names; None where it names something else.

    Raises:
        InputError: `spec` is `last`, and there is no run.
    """
    if spec == LAST_RUN or spec.startswith(("runs:/", "models:/")) or RUN_ID.fullmatch(spec):
        make_store()
    if spec == LAST_RUN:
        return _last_run(task, f"{option}={spec}")
    run_id, _, path = spec.removeprefix("runs:/").partition("/")
    return run_id if not path and (spec.startswith("runs:/") or RUN_ID.fullmatch(spec)) else None


def _last_run(task: str, option_text: str) -> str:
    """Return the id of the newest finished run of the task with a model, without trainings within another run."""
    client = MlflowClient()
    experiments = client.search_experiments()
    if task != ANY_TASK:
        experiments = [each for each in experiments if each.name == task]
    finished = [] if not experiments else client.search_runs(
        [each.experiment_id for each in experiments], "attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
    )  # fmt: skip
    for run in finished:
        tags = run.data.tags
        trained = MLFLOW_PARENT_RUN_ID not in tags and tags.get("model", MODEL) == MODEL
        if PACKAGE in tags or (trained and _checkpoints(client, run.info.run_id)):
            return run.info.run_id
    of_task = "" if task == ANY_TASK else f" of task {task}"
    raise InputError(f"{option_text}: no finished run{of_task} with a checkpoint in {_store()}")


def _of_run(run_id: str, folder: Path, option_text: str) -> list[str]:
    client = MlflowClient()
    try:
        tags = client.get_run(run_id).data.tags
    except MlflowException as error:
        raise InputError(f"{option_text}: no run {run_id} in {_store()}") from error
    if PACKAGE in tags:
        return _download(tags[PACKAGE], folder, option_text)
    present = _checkpoints(client, run_id)
    for name in (BEST, LAST):
        if name in present:
            return _download(f"runs:/{run_id}/{CHECKPOINTS}/{name}", folder, option_text)
    raise InputError(f"{option_text}: run {run_id} has no {CHECKPOINTS}/{BEST}; expected a run that trained a model")


def _checkpoints(client: MlflowClient, run_id: str) -> set[str]:
    return {Path(file.path).name for file in client.list_artifacts(run_id, CHECKPOINTS)}


def _download(uri: str, folder: Path, option_text: str) -> list[str]:
    """Download the `.keras` files at or under an MLflow address, at least one."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        downloaded = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        reason = hide_credentials(str(error).splitlines()[0])
        raise InputError(f"{option_text}: not to be had from {_store()}: {reason}") from error
    files = [downloaded] if downloaded.is_file() else sorted(downloaded.rglob("*.keras"))
    if not files or files[0].suffix != ".keras":
        raise InputError(f"{option_text}: expected a .keras file there, found {len(files)}")
    return [str(file) for file in files]


def _store() -> str:
    return f"the store {hide_credentials(mlflow.get_tracking_uri())}"
