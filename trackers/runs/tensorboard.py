"""Write event files for TensorBoard without loading TensorFlow."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

# Protocol buffers define the classes when they are imported.
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter


class EventWriter:
    """Append to one event file in `folder`; each call is on disk when it returns.

    With the `position` of an earlier writer as `go_on`, its file is continued. TensorBoard's own `EventFileWriter`
    opens its file with TensorFlow, which costs a JAX run seconds and memory.

    TensorBoard's own `EventFileWriter` opens its file with TensorFlow, which costs a JAX run seconds and memory.
    """

    def __init__(self, folder: Path | str, go_on: tuple[str, int] | None = None) -> None:
        self.folder = folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if go_on is not None and (folder / go_on[0]).exists():
            self._open(folder / go_on[0], "r+b")
            end = self._file.seek(0, os.SEEK_END)
            self._file.seek(self._file.truncate(min(end, go_on[1])))
            return
        # TensorBoard searches `tfevents` in names and reads the files of a folder in the order of their names.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._open(folder / name, "xb")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _open(self, path: Path, mode: str) -> None:
        self._file = open(path, mode)  # noqa: SIM115 - closed by `close`
        self._records = RecordWriter(self._file)

    def position(self) -> tuple[str, int]:
        """Return name and length of the file on disk; with them as `go_on` a later writer drops later events."""
        os.fsync(self._file.fileno())
        return Path(self._file.name).name, self._file.tell()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by name, at `step`."""
        points = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def image(self, name: str, array: np.ndarray, step: int) -> None:
        """Write an image (H, W) or (H, W, 3) uint8, at `step`."""
        png = io.BytesIO()
        Image.fromarray(array).save(png, format="PNG")
        image = Summary.Image(
            height=array.shape[0],
            width=array.shape[1],
            colorspace=1 if array.ndim == 2 else array.shape[2],
            encoded_image_string=png.getvalue(),
        )
        points = [Summary.Value(tag=name, image=image)]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        if not self._records.closed:
            self._records.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()
