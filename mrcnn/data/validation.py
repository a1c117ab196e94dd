"""Every image of a data set opened once, before a training, so that what is damaged is told all at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.digest import key_of, load_json, remembered_digests, save_json
from mrcnn.data.readers.problems import Problems, summarize_names
from mrcnn.errors import InputError

_MOST_THREADS, _MOST_VOLUMES = 16, 4
T = TypeVar("T")


def validate_images(dataset: Dataset, problems: Problems, cache: Path | None = None) -> list[int]:
    """Opens every image, and of volumes a slice of each, for which all of it is read; bad ones go to `problems`.

    Args:
        cache: folder for the files' digests, and for those of the images that could be opened.

    Returns:
        Positions of the images that are constant.
    """
    files = {record.path if record.volume is None else record.volume.files: row for row, record in
             reversed(list(enumerate(dataset.records)))}  # fmt: skip
    paths = [record.path for record in dataset.records]
    file = cache / f"opened-{key_of(paths)}.json" if cache is not None and paths else None
    loaded = load_json(file) if file else None
    known: dict[str, bool] = loaded if isinstance(loaded, dict) else {}  # digest → whether it is constant
    sound: dict[str, bool] = {}

    def attempt(row: int) -> bool:
        content = dataset.records[row].content()
        found = known.get(content)
        sound[content] = _is_constant(dataset.image(row)) if found is None else found
        return sound[content]

    rows = sorted(files.values())
    with remembered_digests(cache, paths):
        found = map_images(dataset, rows, attempt, False, problems)
    if file and sound != known:
        save_json(file, dict(sorted(sound.items())))
    return [row for row, is_constant in zip(rows, found, strict=True) if is_constant]


def find_constant(dataset: Dataset, rows: list[int], problems: Problems) -> list[int]:
    """Those of the positions `rows` whose images have the same value everywhere; bad images go to `problems`."""
    found = map_images(dataset, rows, lambda row: _is_constant(dataset.image(row)), False, problems)
    return [row for row, is_constant in zip(rows, found, strict=True) if is_constant]


def _is_constant(image: np.ndarray) -> bool:
    first = image[:1, :1]
    return bool((image[::16, ::16] == first).all() and (image == first).all())


def constant_warnings(dataset: Dataset, rows: list[int]) -> list[str]:
    """A line on the constant images at `rows`, if there are any; slices at the ends of a volume may well be empty."""
    records = [dataset.records[row] for row in rows]
    names = [record.file_name for record in records if record.place is None or len(record.class_ids)]
    return [summarize_names("images hold a single value, so that nothing can be seen in them", names)] if names else []


def map_images(dataset: Dataset, rows: list[int], do: Callable[[int], T], instead: T, problems: Problems) -> list[T]:
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
