"""Which images are nearly the same picture: copies that were turned, mirrored, rescaled, recoloured or compressed.

Annotated sets are often augmented before they are published, or gathered from sources that overlap. Such copies count
as images of their own everywhere, so a split by patient alone lets them teach the model what it is then tested on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mrcnn.data.dataset import Dataset
from mrcnn.data.opened import for_each
from mrcnn.data.readers.problems import Problems

SIDE = 32  # of a thumbnail; a perceptual hash looks at its 8×8 slowest cosine terms
MOST_BITS = 16  # of 64 that differ between hashes; a first, quick sieve
LEAST_CORRELATION = 0.9
"""Of two thumbnails as a whole, and of their fine detail alone, since heads or chests in one position are alike in all
but that. Chosen on pairs looked at, see docs/your-own-data.md: above it lie copies, and below it different pictures."""

_DETAIL = 8  # cosine terms whose two frequencies sum to at least this are detail
_AVERAGE = Image.Resampling.BOX
_BLOCK = 512  # rows of the table of all pairs that are held at once


def find_duplicates(dataset: Dataset, cache: Path | None = None, problems: Problems | None = None) -> np.ndarray:
    """(N,) int64: for each image the number of its group; only images that are nearly the same share one.

    Opens every image, in threads.

    Args:
        cache: folder in which thumbnails are kept, under the data set's digest, so that each is made once.
        problems: takes the images that cannot be read, which then are in groups of their own.

    Raises:
        InputError: lists all images that cannot be read, unless `problems` takes them.
    """
    told = Problems("images") if problems is None else problems
    groups = group_alike(_thumbnails(dataset, cache, told))
    if problems is None:
        told.raise_if_any()
    return groups


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) uint8 grey picture of an image (H, W, C) of any type, from its darkest to its brightest place."""
    colours = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    # Averaging the channels last keeps a large picture of bytes as bytes until it is small.
    small = [
        np.asarray(Image.fromarray(np.ascontiguousarray(colours[..., channel])).resize((SIDE, SIDE), _AVERAGE))
        for channel in range(colours.shape[2])
    ]
    grey = np.mean(small, axis=0, dtype=np.float64)
    grey -= grey.min()
    return np.rint(grey * (255 / max(grey.max(), 1e-6))).astype(np.uint8)


def group_alike(thumbnails: np.ndarray) -> np.ndarray:
    """(N,) group of each thumbnail (N, SIDE, SIDE) uint8; alike in any of the eight ways to turn and mirror a square.

    An even picture, in which nothing can be recognised, is like no other.
    """
    count = len(thumbnails)
    hashes, wholes, details = _describe(thumbnails)
    rows, columns = [], []
    for turned in _orientations(thumbnails):
        other_hashes, other_wholes, other_details = _describe(turned)
        for start in range(0, count, _BLOCK):
            # A pair is met from one side only: what turns one picture into the other is among the eight either way.
            close = np.bitwise_count(hashes[start : start + _BLOCK, None] ^ other_hashes[None, start:]) <= MOST_BITS
            near, far = np.flatnonzero(close.any(1)), np.flatnonzero(close.any(0))
            alike = close[np.ix_(near, far)]
            alike &= wholes[start + near] @ other_wholes[start + far].T >= LEAST_CORRELATION
            alike &= details[start + near] @ other_details[start + far].T >= LEAST_CORRELATION
            row, column = np.nonzero(alike)
            rows.append(start + near[row])
            columns.append(start + far[column])
    if not rows:
        return np.zeros(0, np.int64)
    pairs = np.concatenate(rows), np.concatenate(columns)
    links = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(count, count))
    return connected_components(links, directed=False)[1].astype(np.int64)


def _describe(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A perceptual hash (N,) uint64, and cosine terms of the whole and of the detail, (N, …) float32 of unit length.

    The hash tells which of the slowest terms are above their median (Zauner 2010, pHash). The transform keeps products,
    so those of the terms without the first, the brightness, are the correlations of the pictures.
    """
    terms = dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")
    slow = terms[:, :8, :8].reshape(-1, 64)
    bits = slow > np.median(slow[:, 1:], axis=1, keepdims=True)
    frequency = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    parts = (terms[:, frequency >= least] for least in (1, _DETAIL))
    wholes, details = (part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-6) for part in parts)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0], wholes, details


def _orientations(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    for quarters in range(4):
        turned = np.rot90(thumbnails, quarters, axes=(1, 2))
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, :, ::-1])


def _thumbnails(dataset: Dataset, cache: Path | None, problems: Problems) -> np.ndarray:
    # The digest does not depend on the order of the records; in the order of theirs the thumbnails do not either.
    order = np.argsort(np.array([digest.hex() for digest in dataset.record_digests]), kind="stable")
    file = cache / f"{dataset.digest}.npy" if cache else None
    if file is not None and file.is_file():
        kept = np.load(file)
        if kept.shape == (len(dataset), SIDE, SIDE):
            return kept[np.argsort(order)]
    before = len(problems.faults)
    made = _make_thumbnails(dataset, problems)
    if file is not None and len(problems.faults) == before:
        cache.mkdir(parents=True, exist_ok=True)
        # Renamed into its place, so that another process never meets half a file.
        fresh = file.with_suffix(f".{os.getpid()}")
        with fresh.open("wb") as stream:
            np.save(stream, made[order])
        fresh.replace(file)
    return made


def _make_thumbnails(dataset: Dataset, problems: Problems) -> np.ndarray:
    even = np.zeros((SIDE, SIDE), np.uint8)
    made = for_each(dataset, list(range(len(dataset))), lambda row: thumbnail(dataset.image(row)), even, problems)
    return np.stack(made) if made else np.zeros((0, SIDE, SIDE), np.uint8)
