"""Log params, metrics, tags, inputs and artifacts of a run."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from trackers.offline.buffered_logger import BufferedLogger
from trackers.offline.server import ServerAway, one_attempt, unreachable
from trackers.offline.uploader import ARTIFACT, END, KIND, PARAMS, TAGS, input_record, metrics_record
from trackers.runs.address import hide_credentials, how_to_open, run_url
from trackers.runs.disk import written_to
from trackers.runs.names import Names, param_text
from trackers.runs.serialization import json_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST_TAG = 5000
LONGEST_DATASET_DIGEST = 36
"""mlflow.utils.validation.MAX_DATASET_DIGEST_SIZE"""
SERVER_TIMEOUT = 120.0
"""Seconds to wait for the tracking server before an operation that needs it."""
SYNC = "`mrcnn sync` delivers what was logged"

left_behind: set[str] = set()
"""Runs of this process that ended with queued records."""

_log = logging.getLogger(__name__)


class Run:
    """Log to a run of MLflow.

    Records are logged when a method returns; while a tracking server is unreachable they are saved on disk and uploaded
    later (`trackers.offline.buffered_logger.BufferedLogger`). Names follow `trackers.runs.names.tracked_name`. Files
    have their path in the artifacts of the run, with / between folders.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        experiment_id: str,
        *,
        resumed: bool = False,
        folders: Sequence[Path] = (),
        named: bool = False,
    ) -> None:
        self._sender = BufferedLogger(client, run_id)
        self._resumed, self._named = resumed, named
        self.experiment_id = experiment_id
        self._names = Names()
        self._last_time = 0
        self.id = run_id
        self.folders = tuple(folders)
        """Folders of the artifacts on this machine, known from the start: a server may be unreachable at the end."""
        self._undo: list[Callable[[], object]] = []

    def params(self, values: Mapping[str, object]) -> None:
        """Log new parameters (`trackers.runs.names.new_params`) by their dotted names, without passwords."""
        texts = {self._names(name): hide_credentials(param_text(value)) for name, value in values.items()}
        self._sender.send({KIND: PARAMS, "values": texts})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log metrics at `step` (the epoch); a resumed run skips those that have a value at the step."""
        # Times are unique: they identify a value that the server has logged although its answer was lost.
        self._last_time = max(int(time.time() * 1000), self._last_time + 1)
        points = [Metric(self._names(name), float(value), self._last_time, step) for name, value in values.items()]
        self._sender.send(metrics_record(points, once_a_step=self._resumed))

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags, without passwords and cut to MLflow's maximum length."""
        texts = {name: hide_credentials(str(value))[:LONGEST_TAG] for name, value in values.items()}
        self._sender.send({KIND: TAGS, "values": texts})

    def rename(self, name: str) -> None:
        """Set the name of the run, unless `mlflow run --run-name` has set one."""
        if not self._named:
            self.tags({MLFLOW_RUN_NAME: name})

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Log a file or folder in the artifact folder `folder`."""
        self._sender.send({KIND: ARTIFACT, "folder": folder}, Path(path))

    def text(self, text: str, file: str) -> None:
        """Log text as the artifact `file`."""
        self._file(file, lambda path: path.write_text(text, encoding="utf-8"))

    def json(self, value: object, file: str) -> None:
        """Log data and arrays as JSON; numbers that are not finite become null."""
        self.text(json_text(value), file)

    def figure(self, figure: Figure, file: str) -> None:
        """Log a Matplotlib figure, which remains open."""
        self._file(file, figure.savefig)

    def image(self, array: np.ndarray, file: str) -> None:
        """Log an image (H, W) or (H, W, 3) uint8 in the format of the suffix of `file`."""
        # Pillow is slow to import.
        from PIL import Image

        self._file(file, Image.fromarray(array).save)

    def _file(self, file: str, write: Callable[[Path], object]) -> None:
        """Log the file that `write` creates as the artifact `file`."""
        place = PurePosixPath(file)
        with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
            with written_to(tempfile.gettempdir()):
                write(path := Path(folder, place.name))
            self.artifact(path, str(place.parent) if place.parent.name else None)

    def dataset(
        self, name: str, digest: str, profile: Mapping[str, object], context: str, *, source: str | None = None
    ) -> None:
        """Log a dataset as input of the run.

        Args:
            name: such as `thyroid phantoms`; `context` is added, because MLflow keeps one input of the same name and
                digest, which two splits may share.
            digest: of the content; MLflow's field contains its prefix, the profile all of it.
            profile: counts, sizes, warnings.
            context: `train`, `val`, `test`.
            source: path or address of the data, or None.
        """
        self._sender.send(
            input_record(
                name=f"{name} ({context})",
                digest=digest[:LONGEST_DATASET_DIGEST],
                source_type="code" if source is None else "local",
                source=json_text({"tags": {}} if source is None else {"uri": hide_credentials(source)}, indent=None),
                profile=json_text({**profile, "digest": digest}, indent=None),
                context=context,
            )
        )

    def up_to_date(self) -> bool:
        """Upload queued records; return whether all records are in the store."""
        return self._sender.deliver(now=True)

    def require_server(self, what: str) -> None:
        """Wait for the server before an operation that needs it; `what` is the consequence, in the message.

        Raises:
            ServerAway: it was unreachable for `SERVER_TIMEOUT` seconds.
        """
        if not self._sender.wait(SERVER_TIMEOUT):
            raise ServerAway(f"the tracking server has been away for {SERVER_TIMEOUT:g} s: {what}; {SYNC}")

    def unless_finished(self, undo: Callable[[], object]) -> None:
        """Call `undo` if the run does not end FINISHED."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Undo what only a finished run may leave, the latest first."""
        while self._undo:
            self._undo.pop()()

    def end(self, status: str = "FINISHED") -> None:
        """End the active run."""
        record = {KIND: END, "status": status, "time": int(time.time() * 1000)}
        try:
            self._sender.deliver(now=True)
            self._sender.send(record, by=lambda: mlflow.end_run(status))
        finally:
            if left := self._sender.close():
                left_behind.add(self.id)
                _log.warning("run %s: %d records wait for the tracking server; %s", self.id, left, SYNC)
                self._leave(status)

    def _leave(self, status: str) -> None:
        """Make the run inactive in MLflow, which `mlflow.end_run` does even if it fails."""
        active = mlflow.active_run()
        if active is not None and active.info.run_id == self.id:
            try:
                with one_attempt():
                    mlflow.end_run(status)
            except Exception as error:
                if not unreachable(error):
                    raise

    def url(self) -> str:
        """Return the address of the page of the run (`trackers.runs.address.run_url`)."""
        return run_url(mlflow.get_tracking_uri(), self.experiment_id, self.id)

    def how_to_open(self) -> str:
        """Return the command that shows the run in a browser, or its address on a tracking server."""
        return how_to_open(mlflow.get_tracking_uri(), self.experiment_id, self.id)
