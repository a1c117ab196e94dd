"""Predict items: read, detect and write at the same time. An error of one item does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

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
from mrcnn.data.loading.prefetch import Prefetcher
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


@dataclass
class _Job:
    """An item that is being predicted; `failed` ends its reading and prediction."""

    item: Item
    frames: Frames
    sha256: str
    writer: ItemWriter
    done: int = 0
    negatives: int = 0
    failed: bool = False


class _Frame(NamedTuple):
    job: _Job
    number: int
    image: np.ndarray
    shown: np.ndarray  # what the network sees


Step = Callable[[], None]


def predict_items(
    items: Sequence[Item], detector: Detector, options: Options, record: ProgressRecord, console: Console
) -> Report:
    """Predict all items that the record does not contain yet, in order. Single images share batches.

    One thread reads the next batch and another writes the last one while the network computes.
    """
    with _ProgressDisplay(console, len(items)) as display:
        return _Predictor(detector, options, record, display).predict(items)


class _Predictor:
    """Predict items: `_read` runs in a thread, and the steps that it yields in another, with all that they change.

    `_detect` runs in the calling thread. So reading, computing and writing hold a batch each.
    """

    def __init__(self, detector: Detector, options: Options, record: ProgressRecord, display: _ProgressDisplay) -> None:
        self._detector, self._options, self._record, self._display = detector, options, record, display
        self._report = Report()
        self._open = ExitStack()  # the files of the item that is being written

    def predict(self, items: Sequence[Item]) -> Report:
        """Predict the items. An error other than `InputError` of the reading or the writing ends the prediction."""
        size = self._detector.batch_size
        reader = Prefetcher(self._read(items), depth=3 * size)  # of an image come its frame and two steps
        writing: Future[None] | None = None
        with self._open, closing(reader), ThreadPoolExecutor(1, "writer") as writer:
            for group in _batches(reader, size):
                steps = self._detect(group)
                if writing is not None:
                    writing.result()
                writing = writer.submit(_run_all, steps)
            if writing is not None:
                writing.result()
        return self._report

    def _read(self, items: Sequence[Item]) -> Iterator[_Frame | Step]:
        """Yield the frames of all items, and steps that report and complete the items."""
        for item in items:
            formats = item_formats(self._options.formats, item.kind)
            try:
                sha256 = files_digest(item.seen_files(self._detector.context_slices))
                if self._record.is_done(item.name, sha256, formats):
                    yield self._skip
                    continue
                frames = open_frames(item, self._detector)
            except InputError as error:
                yield partial(self._report_problem, item, error)
                continue
            writer = ItemWriter(item, frames, self._detector, formats, self._record, self._options.keep_patient)
            job = _Job(item, frames, sha256, writer)
            yield partial(self._run_step, job, partial(self._open.enter_context, writer))
            try:
                for number, image in frames.iterate():
                    if job.failed:
                        break
                    yield _Frame(job, number, image, frames.to_input(number, image))
            except InputError as error:
                yield partial(self._run_step, job, partial(self._fail, job, error))
            yield partial(self._run_step, job, partial(self._complete, job))

    def _detect(self, group: Sequence[_Frame | Step]) -> list[Step]:
        """Detect the instances of all frames in a group; return its steps, with one in place of each frame."""
        group = [each for each in group if not (isinstance(each, _Frame) and each.job.failed)]
        images = [each.shown for each in group if isinstance(each, _Frame)]
        results = iter(detect_or_error(self._detector, images, self._options.confidence) if images else ())
        return [
            partial(self._run_step, each.job, partial(self._add, each, next(results)))
            if isinstance(each, _Frame)
            else each
            for each in group
        ]

    def _run_step(self, job: _Job, step: Callable[[], object]) -> None:
        if not job.failed:
            try:
                step()
            except InputError as error:
                self._fail(job, error)

    def _add(self, frame: _Frame, result: Detections | InputError) -> None:
        if isinstance(result, InputError):
            raise result
        job, number, image, _ = frame
        spacing = self._options.spacing_mm or job.frames.spacing_mm
        findings = FINDINGS[self._detector.findings](image, result, self._detector.class_names, spacing, None)
        job.writer.add(number, image, result, findings)
        if job.item.kind not in SINGLE:
            job.done += 1
            self._display.frames(job.item.source, job.done, job.frames.expected)
        elif self._detector.polarity is not None:
            job.negatives += int(find_negatives(thumbnail(image)[None], self._detector.polarity)[0])

    def _complete(self, job: _Job) -> None:
        job.writer.finish()
        self._open.close()
        item, files = job.item, job.writer.files
        before = self._record.done.get(item.name)
        if before is not None:  # other content or formats: files that were not written again are outdated
            self._delete(set(before.files.values()) - set(files.values()))
        self._record.add(Done(item.name, item.kind, item.source, job.sha256, files))
        self._report.predicted += 1
        self._report.alone += job.frames.alone
        self._report.negatives += job.negatives
        self._display.item_done()

    def _skip(self) -> None:
        self._report.skipped += 1
        self._display.item_done()

    def _fail(self, job: _Job, error: InputError) -> None:
        """Report an error and delete the incomplete files of the item."""
        job.failed = True
        self._open.__exit__(type(error), error, error.__traceback__)
        before = self._record.done.get(job.item.name)
        if before is not None and before.sha256 != job.sha256:  # the predictions of the old content are outdated
            self._record.forget(job.item.name)
            before = None
        self._delete(set(job.writer.files.values()) - set(before.files.values() if before else ()))
        self._report_problem(job.item, error)

    def _report_problem(self, item: Item, error: InputError) -> None:
        self._report.problems.append(_with_source(item, error))
        self._display.item_done()

    def _delete(self, files: set[str]) -> None:
        for relative in files:
            (self._record.folder / relative).unlink(missing_ok=True)


def _batches(stream: Iterable[_Frame | Step], size: int) -> Iterator[list[_Frame | Step]]:
    """Group `size` frames, of single images or of one other item, with the steps before and between them."""
    group: list[_Frame | Step] = []
    count, item = 0, None
    for each in stream:
        if isinstance(each, _Frame):
            before, item = item, None if each.job.item.kind in SINGLE else each.job
            if count and (count == size or item is not before):
                yield group
                group, count = [], 0
            count += 1
        group.append(each)
        if not count:  # steps wait for nothing
            yield group
            group = []
    if group:
        yield group


def _run_all(steps: Iterable[Step]) -> None:
    for step in steps:
        step()


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
