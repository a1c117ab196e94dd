"""Every image of a data set opened once, before a training, so that what is damaged is told all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from mrcnn.data.dataset import Dataset
from mrcnn.data.digest import key_of, load_json, remembered_digests, save_json
from mrcnn.data.readers.problems import Problems
from mrcnn.errors import InputError

_MOST_THREADS, _MOST_VOLUMES = 16, 4
T = TypeVar("T")


def open_all(dataset: Dataset, problems: Problems, cache: Path | None = None) -> None:
    """Opens every image, and of volumes a slice of each, for which all of it is read; bad ones go to `problems`.

    Args:
        cache: folder for the files' digests, and for those of the images that could be opened.
    """
    files = {record.path if record.volume is None else record.volume.files: row for row, record in
             reversed(list(enumerate(dataset.records)))}  # fmt: skip
    paths = [record.path for record in dataset.records]
    file = cache / f"opened-{key_of(paths)}.json" if cache is not None and paths else None
    known = set(load_json(file) or ()) if file else set()
    sound: set[str] = set()

    def attempt(row: int) -> None:
        content = dataset.records[row].content()
        if content not in known:
            dataset.image(row)
        sound.add(content)

    with remembered_digests(cache, paths):
        for_each(dataset, sorted(files.values()), attempt, None, problems)
    if file and sound != known:
        save_json(file, sorted(sound))


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
