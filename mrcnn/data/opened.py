"""Every image of a data set opened once, before a training, so that what is damaged is told all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mrcnn.data.dataset import Dataset
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

_MOST_THREADS, _MOST_VOLUMES = 16, 4
T = TypeVar("T")


def open_all(dataset: Dataset, problems: Problems, cache: Path | None = None) -> None:
    """Opens every image, and of volumes a slice of each, for which all of it is read; bad ones go to `problems`.

    Args:
        cache: folder in which is noted that all of a data set, known by its digest, could be opened.
    """
    # Files that cannot even be read are told by opening them.
    note = cache / dataset.digest if cache is not None else None
    if note is not None and note.is_file():
        return
    files = {record.path if record.volume is None else record.volume.files: row for row, record in
             reversed(list(enumerate(dataset.records)))}  # fmt: skip
    before = len(problems.faults)
    for_each(dataset, sorted(files.values()), lambda row: dataset.image(row).shape, (), problems)
    if note is not None and len(problems.faults) == before:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()


def for_each(dataset: Dataset, rows: list[int], do: Callable[[int], T], instead: T, problems: Problems) -> list[T]:
    """`do` of each position, in threads, as decoders work outside Python's lock.

    Where it raises `InputError`, that goes to `problems`, once for each file and in the order of `rows`, and the result
    is `instead`.
    """

    faults: dict[Path, str] = {}

    def attempt(row: int) -> T:
        path = dataset.records[row].path
        if path in faults:  # another slice of that volume
            return instead
        try:
            return do(row)
        except InputError as error:
            faults.setdefault(path, str(error))
            return instead

    volumes = any(record.volume is not None for record in dataset.records)
    most = min(os.cpu_count() or 1, _MOST_VOLUMES if volumes else _MOST_THREADS)
    with ThreadPoolExecutor(max_workers=most) as threads:
        results = list(threads.map(attempt, rows))
    for path in dict.fromkeys(dataset.records[row].path for row in rows):
        if path in faults:
            problems.add_passable(faults[path], path)
    return results
