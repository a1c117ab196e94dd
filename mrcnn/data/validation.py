"""Validate all images of a data set before training, and report every damaged file in one error."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.data.digest import dataset_key, digest_cache, load_json, save_json
from mrcnn.data.problems import Problems, name_warnings
from mrcnn.errors import InputError

_MOST_THREADS, _MOST_VOLUMES = 16, 4
T = TypeVar("T")


def validate_images(
    dataset: Dataset,
    problems: Problems,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[int]:
    """Open every image, and one slice of each volume, which reads the whole volume; add invalid ones to `problems`.

    Args:
        dataset: data set.
        problems: collects the invalid images.
        cache: folder for file digests and the digests of valid images, or None.
        advance: called after each file.

    Returns:
        Positions of the constant images.
    """
    files = {record.path if record.volume is None else record.volume.files: row for row, record in
             reversed(list(enumerate(dataset.records)))}  # fmt: skip
    paths = [record.path for record in dataset.records]
    file = cache / f"opened-{dataset_key(paths)}.json" if cache is not None and paths else None
    loaded = load_json(file) if file else None
    known: dict[str, bool] = loaded if isinstance(loaded, dict) else {}  # digest → whether the image is constant
    valid: dict[str, bool] = {}

    def attempt(row: int) -> bool:
        content = dataset.records[row].content_digest()
        found = known.get(content)
        valid[content] = _is_constant(dataset.image(row)) if found is None else found
        return valid[content]

    rows = sorted(files.values())
    with digest_cache(cache, paths):
        found = map_images(dataset, rows, attempt, False, problems, advance)
    if file and valid != known:
        save_json(file, dict(sorted(valid.items())))
    return [row for row, is_constant in zip(rows, found, strict=True) if is_constant]


def find_constant(dataset: Dataset, rows: list[int], problems: Problems) -> list[int]:
    """Return the positions among `rows` of constant images; add invalid images to `problems`."""
    found = map_images(dataset, rows, lambda row: _is_constant(dataset.image(row)), False, problems)
    return [row for row, is_constant in zip(rows, found, strict=True) if is_constant]


def _is_constant(image: np.ndarray) -> bool:
    first = image[:1, :1]
    return bool((image[::16, ::16] == first).all() and (image == first).all())


def constant_warnings(dataset: Dataset, rows: list[int]) -> list[str]:
    """Return a warning about the constant images at `rows`, if any; empty slices of a volume are normal."""
    records = [dataset.records[row] for row in rows]
    names = [record.file_name for record in records if record.place is None or len(record.class_ids)]
    return name_warnings("images hold a single value, so that nothing can be seen in them", names)


def map_images(
    dataset: Dataset,
    rows: list[int],
    function: Callable[[int], T],
    default: T,
    problems: Problems,
    advance: Callable[[], None] = lambda: None,
) -> list[T]:
    """Call `function` for each position in threads; image decoders release Python's lock.

    An `InputError` is added to `problems`, once per file and in the order of `rows`; the result is then `default`.
    `advance` is called after each position.
    """
    faults: dict[Path, str] = {}

    def attempt(row: int) -> T:
        path = dataset.records[row].path
        if path in faults:  # another slice of the same volume
            return default
        try:
            return function(row)
        except InputError as error:
            faults.setdefault(path, str(error))
            return default

    volumes = any(record.volume is not None for record in dataset.records)
    most = min(os.cpu_count() or 1, _MOST_VOLUMES if volumes else _MOST_THREADS)
    with ThreadPoolExecutor(max_workers=most) as threads:
        results = []
        for result in threads.map(attempt, rows):
            results.append(result)
            advance()
    for path in dict.fromkeys(dataset.records[row].path for row in rows):
        if path in faults:
            problems.add_skippable(faults[path], path)
    return results
