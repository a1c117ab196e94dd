"""Predict items one after another: read, detect, write. An error of one item does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.findings import FINDINGS
from experiments.prediction.detector import Detector, detect_or_error
from experiments.prediction.frames import Frames, open_frames
from experiments.prediction.inputs import Item
from experiments.prediction.item_writer import ItemWriter
from experiments.prediction.output_formats import item_formats
from experiments.prediction.progress_record import Done, ProgressRecord
from mrcnn.data.digest import files_digest
from mrcnn.data.duplicates import thumbnail
from mrcnn.data.film_polarity import find_negatives
from mrcnn.data.sample import Spacing
from mrcnn.detections import Detections
from mrcnn.errors import InputError

SECONDS_BETWEEN_LINES = 10
SINGLE = ("image", "dicom")


@dataclass
class Report:
    """Results of a prediction.

    Attributes:
        predicted: number of predicted items.
        skipped: number of items skipped as complete.
        negatives: number of images with another polarity than the training images.
        alone: number of items without neighbors, which the model was trained with.
        problems: a line for each error.
    """

    predicted: int = 0
    skipped: int = 0
    negatives: int = 0
    alone: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """Options of a prediction.

    Attributes:
        confidence: threshold of the scores.
        formats: output formats.
        spacing_mm: (row, column) size of a pixel instead of that in the files.
        keep_patient: write the patient of the source to DICOM segmentations.
    """

    confidence: float
    formats: tuple[str, ...]
    spacing_mm: Spacing | None = None
    keep_patient: bool = False


@dataclass(frozen=True)
class _Job:
    item: Item
    frames: Frames
    sha256: str
    writer: ItemWriter


def predict_items(
    items: Sequence[Item], detector: Detector, options: Options, record: ProgressRecord, console: Console
) -> Report:
    """Predict all items that the record does not contain yet. Single images share batches."""
    with _ProgressDisplay(console, len(items)) as display:
        predictor = _Predictor(detector, options, record, display)
        for item in items:
            predictor.predict(item)
        predictor.flush()
    return predictor.report


class _Predictor:
    def __init__(self, detector: Detector, options: Options, record: ProgressRecord, display: _ProgressDisplay) -> None:
        self._detector, self._options, self._record, self._display = detector, options, record, display
        self._batch: list[tuple[_Job, np.ndarray, np.ndarray]] = []
        self.report = Report()

    def predict(self, item: Item) -> None:
        """Predict an item; a single image is predicted when its batch is full."""
        if item.kind not in SINGLE:
            self.flush()
        job = self._open(item)
        if job is None:
            return
        if item.kind not in SINGLE:
            self._predict_frames(job)
            return
        try:
            self._batch += [(job, image, job.frames.to_input(0, image)) for _, image in job.frames.iterate()]
        except InputError as error:
            self._fail(job, error)
        if len(self._batch) == self._detector.batch_size:
            self.flush()

    def flush(self) -> None:
        """Predict the single images in the batch."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        results = self._detect([shown for _, _, shown in batch])
        for (job, image, _), result in zip(batch, results, strict=True):
            try:
                with job.writer:
                    self._add(job, 0, image, result)
                    job.writer.finish()
            except InputError as error:
                self._fail(job, error)
            else:
                if self._detector.polarity is not None:
                    self.report.negatives += int(find_negatives(thumbnail(image)[None], self._detector.polarity)[0])
                self._complete(job)

    def _open(self, item: Item) -> _Job | None:
        """Open an item; None if it is complete or cannot be opened."""
        formats = item_formats(self._options.formats, item.kind)
        try:
            sha256 = files_digest(item.seen_files(self._detector.context_slices))
            if self._record.is_done(item.name, sha256, formats):
                self.report.skipped += 1
                self._display.item_done()
                return None
            frames = open_frames(item, self._detector)
        except InputError as error:
            self.report.problems.append(_with_source(item, error))
            self._display.item_done()
            return None
        writer = ItemWriter(item, frames, self._detector, formats, self._record, self._options.keep_patient)
        return _Job(item, frames, sha256, writer)

    def _predict_frames(self, job: _Job) -> None:
        """Predict an item of many frames, with one batch in memory at a time."""
        done = 0
        try:
            with job.writer:
                frames = job.frames.iterate()
                while batch := list(islice(frames, self._detector.batch_size)):
                    results = self._detect([job.frames.to_input(number, image) for number, image in batch])
                    for (number, image), result in zip(batch, results, strict=True):
                        self._add(job, number, image, result)
                    done += len(batch)
                    self._display.frames(job.item.source, done, job.frames.expected)
                job.writer.finish()
        except InputError as error:
            self._fail(job, error)
        else:
            self._complete(job)

    def _detect(self, images: Sequence[np.ndarray]) -> list[Detections | InputError]:
        return detect_or_error(self._detector, images, self._options.confidence)

    def _add(self, job: _Job, number: int, image: np.ndarray, result: Detections | InputError) -> None:
        if isinstance(result, InputError):
            raise result
        spacing = self._options.spacing_mm or job.frames.spacing_mm
        findings = FINDINGS[self._detector.findings](image, result, self._detector.class_names, spacing, None)
        job.writer.add(number, image, result, findings)

    def _complete(self, job: _Job) -> None:
        item, files = job.item, job.writer.files
        before = self._record.done.get(item.name)
        if before is not None:  # other content or formats: files that were not written again are outdated
            self._delete(set(before.files.values()) - set(files.values()))
        self._record.add(Done(item.name, item.kind, item.source, job.sha256, files))
        self.report.predicted += 1
        self.report.alone += job.frames.alone
        self._display.item_done()

    def _fail(self, job: _Job, error: InputError) -> None:
        """Report an error and delete the incomplete files of the item."""
        before = self._record.done.get(job.item.name)
        if before is not None and before.sha256 != job.sha256:  # the predictions of the old content are outdated
            self._record.forget(job.item.name)
            before = None
        self._delete(set(job.writer.files.values()) - set(before.files.values() if before else ()))
        self.report.problems.append(_with_source(job.item, error))
        self._display.item_done()

    def _delete(self, files: set[str]) -> None:
        for relative in files:
            (self._record.folder / relative).unlink(missing_ok=True)


def _with_source(item: Item, error: InputError) -> str:
    """Begin the message with the input. Messages about files contain the path, messages about pixels do not."""
    text = str(error)
    return text if any(str(path) in text for path in item.files) or item.source in text else f"{item.source}: {text}"


class _ProgressDisplay:
    """Show a progress bar on a terminal, and a line every `SECONDS_BETWEEN_LINES` elsewhere."""

    def __init__(self, console: Console, items: int) -> None:
        self._console, self._items, self._done = console, items, 0
        self._last = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._all = self._bar.add_task("predicting", total=items)
        self._one = self._bar.add_task("", total=1, visible=False)

    def __enter__(self) -> _ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def frames(self, source: str, done: int, expected: int) -> None:
        self._bar.update(self._one, description=source, completed=done, total=expected or None, visible=True)
        self._line(f"{source}: {done}{f' of {expected}' if expected else ''} frames")

    def item_done(self) -> None:
        self._done += 1
        self._bar.update(self._all, completed=self._done)
        self._bar.update(self._one, visible=False)
        self._line(f"{self._done} of {self._items} inputs")

    def _line(self, text: str) -> None:
        if not self._console.is_terminal and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._console.print(text, markup=False)
