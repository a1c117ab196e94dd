"""What can be written into a run."""

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
PATIENCE = 120.0
"""Seconds that what cannot be done without the tracking server waits for it."""
SYNC = "`mrcnn sync` delivers what was logged"

left_behind: set[str] = set()
"""Runs of this process that ended with the server away."""

_log = logging.getLogger(__name__)


class Run:
    """What can be written into a run. Writing is done when a method returns; while a tracking server is away, what was
    written stands on the disk and is delivered later (`trackers.offline.buffered_logger.BufferedLogger`).

    Metric and parameter names follow `trackers.runs.names.tracked_name`. Files are named by their path among the run's
    artifacts, with / between folders.
    """

    def __init__(
        self,
        client: MlflowClient,
        run_id: str,
        experiment_id: str,
        *,
        resumed: bool = False,
        folders: Sequence[Path] = (),
    ) -> None:
        self._sender = BufferedLogger(client, run_id)
        self._resumed = resumed
        self.experiment_id = experiment_id
        self._names = Names()
        self._last_time = 0
        self.id = run_id
        self.folders = tuple(folders)
        """Folders of this machine that the artifacts go to, known from the start: a server may be away at the end."""
        self._undo: list[Callable[[], object]] = []

    def params(self, values: Mapping[str, object]) -> None:
        """Logs parameters by their dotted names, beside those that are already there
        (`trackers.runs.names.new_params`),
        and without passwords of addresses."""
        texts = {self._names(name): hide_credentials(param_text(value)) for name, value in values.items()}
        self._sender.send({KIND: PARAMS, "values": texts})

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Logs numbers at `step` (the epoch). In a resumed run those that stand there at that step are left alone."""
        # Never twice the same: by it a number is known that the server took although its answer was lost.
        self._last_time = max(int(time.time() * 1000), self._last_time + 1)
        points = [Metric(self._names(name), float(value), self._last_time, step) for name, value in values.items()]
        self._sender.send(metrics_record(points, once_a_step=self._resumed))

    def tags(self, values: Mapping[str, object]) -> None:
        """Sets tags, without passwords of addresses; a longer value than MLflow keeps is cut."""
        texts = {name: hide_credentials(str(value))[:LONGEST_TAG] for name, value in values.items()}
        self._sender.send({KIND: TAGS, "values": texts})

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Copies a file, or a folder with all in it, into the artifact folder `folder`."""
        self._sender.send({KIND: ARTIFACT, "folder": folder}, Path(path))

    def text(self, text: str, file: str) -> None:
        self._file(file, lambda path: path.write_text(text, encoding="utf-8"))

    def json(self, value: object, file: str) -> None:
        """`value` of plain data and arrays; numbers that are not finite become null."""
        self.text(json_text(value), file)

    def figure(self, figure: Figure, file: str) -> None:
        """A Matplotlib figure; closing it is left to the caller."""
        self._file(file, figure.savefig)

    def image(self, array: np.ndarray, file: str) -> None:
        """(H, W) or (H, W, 3) uint8 as `file`, whose ending tells the form (.png)."""
        # Pillow takes a while to load.
        from PIL import Image

        self._file(file, Image.fromarray(array).save)

    def _file(self, file: str, write: Callable[[Path], object]) -> None:
        """Keeps what `write` writes to the path given as the artifact `file`."""
        place = PurePosixPath(file)
        with tempfile.TemporaryDirectory(prefix="medmrcnn-") as folder:
            with written_to(tempfile.gettempdir()):
                write(path := Path(folder, place.name))
            self.artifact(path, str(place.parent) if place.parent.name else None)

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
        """Whether all that was written is in the store; what is not is sent if the server is back."""
        return self._sender.deliver(now=True)

    def require_server(self, what: str) -> None:
        """Waits for the server, if it is away, before something that cannot be done without it.

        Args:
            what: is not done otherwise, such as `the model is not registered`.

        Raises:
            ServerAway: it was away for `PATIENCE` seconds.
        """
        if not self._sender.wait(PATIENCE):
            raise ServerAway(f"the tracking server has been away for {PATIENCE:g} s: {what}; {SYNC}")

    def unless_finished(self, undo: Callable[[], object]) -> None:
        """Has `undo` called where the run ends otherwise than FINISHED."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Takes back what only a finished run may leave, the latest first."""
        while self._undo:
            self._undo.pop()()

    def end(self, status: str = "FINISHED") -> None:
        """Ends the run, which is the active one, and lets go of it."""
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
        """What MLflow itself has to forget of the run, which `mlflow.end_run` does also when it fails."""
        active = mlflow.active_run()
        if active is not None and active.info.run_id == self.id:
            try:
                with one_attempt():
                    mlflow.end_run(status)
            except Exception as error:
                if not unreachable(error):
                    raise

    def url(self) -> str:
        """Address of the run's page (see `trackers.runs.address.run_url`)."""
        return run_url(mlflow.get_tracking_uri(), self.experiment_id, self.id)

    def how_to_open(self) -> str:
        """The command that shows the run in a browser, or its address on a tracking server."""
        return how_to_open(mlflow.get_tracking_uri(), self.experiment_id, self.id)
