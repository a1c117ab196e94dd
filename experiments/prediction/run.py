"""Item after item: read, find, write; what fails is noted, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from experiments.findings import FINDINGS
from experiments.prediction.answers import own_forms
from experiments.prediction.detector import Detector, found_in
from experiments.prediction.frames import Frames, open_frames
from experiments.prediction.inputs import Item
from experiments.prediction.progress_record import Done, ProgressRecord
from experiments.prediction.writing import ItemWriter
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
    """What became of the items: how many were predicted and skipped as complete, how many of them have another polarity
    than the films that the model was trained on, and what went wrong, a line each."""

    predicted: int = 0
    skipped: int = 0
    negatives: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """Least score of an instance, forms to write, a size of pixels that overrides the files' (row, column; mm), and
    whether a DICOM segmentation bears the patient of its source."""

    confidence: float
    forms: tuple[str, ...]
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
    """Predicts all items that are not complete in the record yet. Single images share batches."""
    report = Report()
    with _Screen(console, len(items)) as screen:
        waiting: list[tuple[_Job, np.ndarray]] = []
        for item in items:
            single = item.kind in SINGLE
            if not single:
                _finish(waiting, detector, options, record, report, screen)
            job = _open(item, detector, options, record, report, screen)
            if job is None:
                continue
            if not single:
                _whole(job, detector, options, record, report, screen)
                continue
            try:
                waiting.append((job, job.frames.read(0)))
            except InputError as error:
                _fail(job, error, record, report, screen)
            if len(waiting) == detector.batch_size:
                _finish(waiting, detector, options, record, report, screen)
        _finish(waiting, detector, options, record, report, screen)
    return report


def _open(
    item: Item, detector: Detector, options: Options, record: ProgressRecord, report: Report, screen: _Screen
) -> _Job | None:
    """The item, unless it is complete or cannot be opened."""
    forms = own_forms(options.forms, item.kind)
    try:
        sha256 = files_digest(item.files)
        if record.is_done(item.name, sha256, forms):
            report.skipped += 1
            screen.item_done()
            return None
        frames = open_frames(item, detector)
    except InputError as error:
        report.problems.append(_named(item, error))
        screen.item_done()
        return None
    return _Job(item, frames, sha256, ItemWriter(item, frames, detector, forms, record, options.keep_patient))


def _finish(
    waiting: list[tuple[_Job, np.ndarray]],
    detector: Detector,
    options: Options,
    record: ProgressRecord,
    report: Report,
    screen: _Screen,
) -> None:
    """Predicts the single images that wait, and empties the list."""
    jobs, images = [job for job, _ in waiting], [image for _, image in waiting]
    waiting.clear()
    if not jobs:
        return
    for job, image, found in zip(jobs, images, found_in(detector, images, options.confidence), strict=True):
        try:
            with job.writer:
                _add(job, 0, image, found, detector, options)
                job.writer.finish()
        except InputError as error:
            _fail(job, error, record, report, screen)
        else:
            if detector.polarity is not None:
                report.negatives += int(find_negatives(thumbnail(image)[None], detector.polarity)[0])
            _complete(job, record, report, screen)


def _whole(
    job: _Job, detector: Detector, options: Options, record: ProgressRecord, report: Report, screen: _Screen
) -> None:
    """Predicts an item of many frames, a batch of them in memory at a time."""
    done = 0
    try:
        with job.writer:
            for batch in _batches(job.frames.each, detector.batch_size):
                found = found_in(detector, [image for _, image in batch], options.confidence)
                for (number, image), each in zip(batch, found, strict=True):
                    _add(job, number, image, each, detector, options)
                done += len(batch)
                screen.frames(job.item.source, done, job.frames.expected)
            job.writer.finish()
    except InputError as error:
        _fail(job, error, record, report, screen)
    else:
        _complete(job, record, report, screen)


def _batches(each: Callable[[], Iterator[Any]], size: int) -> Iterator[list[Any]]:
    frames = each()
    while batch := list(islice(frames, size)):
        yield batch


def _add(
    job: _Job, number: int, image: np.ndarray, found: Detections | InputError, detector: Detector, options: Options
) -> None:
    if isinstance(found, InputError):
        raise found
    spacing = options.spacing_mm or job.frames.spacing_mm
    findings = FINDINGS[detector.findings](image, found, detector.class_names, spacing, None)
    job.writer.add(number, image, found, findings)


def _complete(job: _Job, record: ProgressRecord, report: Report, screen: _Screen) -> None:
    item, files = job.item, job.writer.files
    before = record.done.get(item.name)
    if before is not None:  # of other content, or with other forms: what is not written anew is no longer true
        for relative in set(before.files.values()) - set(files.values()):
            (record.folder / relative).unlink(missing_ok=True)
    record.add(Done(item.name, item.kind, item.source, job.sha256, files))
    report.predicted += 1
    screen.item_done()


def _fail(job: _Job, error: InputError, record: ProgressRecord, report: Report, screen: _Screen) -> None:
    """Notes what went wrong, and removes what the item has left half done."""
    before = record.done.get(job.item.name)
    if before is not None and before.sha256 != job.sha256:  # what was found in other content is no longer true
        record.forget(job.item.name)
        before = None
    kept = set(before.files.values()) if before else set()
    for relative in set(job.writer.files.values()) - kept:
        (record.folder / relative).unlink(missing_ok=True)
    report.problems.append(_named(job.item, error))
    screen.item_done()


def _named(item: Item, error: InputError) -> str:
    """The error with its input named: messages about a file begin with its path, those about pixels do not."""
    text = str(error)
    return text if any(str(path) in text for path in item.files) or item.source in text else f"{item.source}: {text}"


class _Screen:
    """A bar on a terminal, a line now and then elsewhere."""

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

    def __enter__(self) -> _Screen:
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
            self._console.print(text, markup=False, soft_wrap=True)
