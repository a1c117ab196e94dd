"""Which images are nearly the same picture: copies that were turned, mirrored, rescaled, recoloured or compressed.

Annotated sets are often augmented before they are published, or gathered from sources that overlap. Such copies count
as images of their own everywhere, so a split by patient alone lets them teach the model what it is then tested on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mrcnn.data.dataset import Dataset
from mrcnn.data.digest import key_of, load_arrays, remembered_digests, save_arrays
from mrcnn.data.readers.problems import Problems
from mrcnn.data.validation import map_images

SIDE = 32  # of a thumbnail; a perceptual hash looks at its 8×8 slowest cosine terms
MOST_BITS = 16  # of 64 that differ between hashes; a first, quick sieve
LEAST_CORRELATION = 0.9
"""Of two thumbnails as a whole, and of their fine detail alone, since heads or chests in one position are alike in all
but that. Chosen on pairs looked at, see docs/your-own-data.md: above it lie copies, and below it different pictures."""

_DETAIL = 8  # cosine terms whose two frequencies sum to at least this are detail
_AVERAGE = Image.Resampling.BOX
_BLOCK = 512  # rows of the table of all pairs that a thread takes at once
_TILE = (16, 8192)  # rows and columns that are compared at once, so that they stay in the processor's cache
_MOST_PAIRS = 1 << 20  # that are held at once
_MOST_THREADS = 16
_CHUNK = 4096  # thumbnails that are transformed at once
_VERSION = 1  # rises whenever the same thumbnails give other groups
_FREQUENCY = np.add.outer(np.arange(SIDE), np.arange(SIDE))
_RINGS = (11, 14, 19)  # of the detail's terms those below the first are compared one by one, the rest by their lengths


def find_duplicates(dataset: Dataset, cache: Path | None = None, problems: Problems | None = None) -> np.ndarray:
    """(N,) int64: for each image the number of its group; only images that are nearly the same share one.

    Reads and opens every image, in threads, unless that is in the cache.

    Args:
        cache: folder for the files' digests, for thumbnails by the digest of their image, and for groups by that of all
            thumbnails, so that each is made once.
        problems: takes the images that cannot be read, which then are in groups of their own.

    Raises:
        InputError: lists all images that cannot be read, unless `problems` takes them.
    """
    told = Problems("images") if problems is None else problems
    thumbnails = thumbnails_of(dataset, cache, told)
    if problems is None:
        told.raise_if_any()
    return groups_of(thumbnails, cache)


def groups_of(thumbnails: np.ndarray, cache: Path | None) -> np.ndarray:
    """As `group_alike`, unless the groups are in the folder `cache`."""
    file = cache and cache / f"groups-{_VERSION}-{hashlib.sha256(thumbnails).hexdigest()[:32]}.npz"
    groups = load_arrays(file).get("groups")
    if groups is None or groups.shape != (len(thumbnails),):
        groups = group_alike(thumbnails)
        save_arrays(file, groups=groups)
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
    groups = np.arange(count)  # of each the number of its group's first; threads read it while it changes
    if not count:
        return groups
    terms = np.concatenate([_terms(part) for part in _chunks(thumbnails)])
    plain = _describe(thumbnails)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads:
        for orientation in product((False, True), (1, -1), (1, -1)):
            turned = _describe(thumbnails, orientation)

            def find(start: int, turned=turned, orientation=orientation) -> list[tuple[np.ndarray, np.ndarray]]:
                """Of the pairs of this block those that are alike and that `groups` did not hold when it was seen."""
                found = []
                for row, column in _candidates(plain, turned, start):
                    apart = groups[row] != groups[column]
                    row, column = row[apart], column[apart]
                    alike = _correlate(terms, row, column, orientation)
                    found.append((row[alike], column[alike]))
                return found

            for found in threads.map(find, range(0, count, _BLOCK)):
                for row, column in found:
                    if len(row):
                        groups[:] = _join(groups, row, column)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


Described = tuple[np.ndarray, np.ndarray]
"""Hashes (N,) uint64 and bounds (N, …) float32, of `_describe`."""


def _candidates(plain: Described, turned: Described, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs (row, column) that may be alike, of the rows of the block at `start`, by two quick tests.

    A pair is met from one side only: what turns one picture into the other is among the eight either way. Where the
    hashes leave many, since the pictures show things in the same position, the details' bounds take most of those away.
    """
    hashes, bounds = plain
    differing, bits = np.empty(_TILE, np.uint64), np.empty(_TILE, np.uint8)
    found, pairs = [], 0
    for top in range(start, min(start + _BLOCK, len(hashes)), _TILE[0]):
        rows = np.s_[top : min(top + _TILE[0], start + _BLOCK)]
        for left in range(start, len(hashes), _TILE[1]):
            columns = np.s_[left : left + _TILE[1]]
            one, other = hashes[rows, None], turned[0][None, columns]
            part = np.s_[: one.size, : other.size]
            np.bitwise_xor(one, other, out=differing[part])
            close = np.bitwise_count(differing[part], out=bits[part]) <= MOST_BITS
            if np.count_nonzero(close) * 64 > close.size:
                close &= bounds[rows] @ turned[1][columns].T >= LEAST_CORRELATION - 1e-4
            row, column = np.divmod(np.flatnonzero(close), other.size)  # np.nonzero takes ten times as long
            found.append((top + row, left + column))
            pairs += len(row)
            if pairs > _MOST_PAIRS:
                yield tuple(map(np.concatenate, zip(*found, strict=True)))
                found, pairs = [], 0
    if pairs:
        yield tuple(map(np.concatenate, zip(*found, strict=True)))


def _correlate(terms: np.ndarray, rows: np.ndarray, columns: np.ndarray, orientation: Orientation) -> np.ndarray:
    """(P,) bool: which pairs of thumbnails correlate enough, as a whole and in their detail, the second one turned.

    The transform keeps products, so those of the terms without the first, the brightness, are the correlations.
    """
    alike = np.ones(len(rows), bool)
    for least in (_DETAIL, 1):
        if not alike.any():
            break
        near, row = np.unique(rows[alike], return_inverse=True)
        far, column = np.unique(columns[alike], return_inverse=True)
        place = np.flatnonzero(_FREQUENCY >= least)
        one = _unit(terms[near].reshape(-1, SIDE**2)[:, place])
        other = _unit(_turn(terms[far], orientation).reshape(-1, SIDE**2)[:, place])
        if len(row) * 32 > len(near) * len(far):
            correlation = (one @ other.T)[row, column]
        else:
            starts = range(0, len(row), _CHUNK)
            parts = ((one[row[start : start + _CHUNK]], other[column[start : start + _CHUNK]]) for start in starts)
            correlation = np.concatenate([np.einsum("pt,pt->p", *part) for part in parts])
        alike[alike] = correlation >= LEAST_CORRELATION
    return alike


def _join(groups: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The groups (N,), each known by its first, after those of the thumbnails `rows` and `columns` became one."""
    links = coo_array((np.ones(len(rows), np.int8), (groups[rows], groups[columns])), shape=(len(groups),) * 2)
    joined = connected_components(links, directed=False)[1][groups]
    _, first, group = np.unique(joined, return_index=True, return_inverse=True)
    return first[group]


Orientation = tuple[bool, int, int]
"""Whether rows and columns change places, then -1 where the rows, and where the columns, run the other way."""


def _terms(thumbnails: np.ndarray) -> np.ndarray:
    """(N, SIDE, SIDE) float32 cosine terms."""
    return dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho")


def _turn(terms: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The cosine terms (N, SIDE, SIDE) of the turned pictures: mirroring changes the sign of every second term."""
    swapped, down, across = orientation
    return (terms.swapaxes(1, 2) if swapped else terms) * np.outer(*(np.power(s, np.arange(SIDE), dtype=np.float32)
                                                                     for s in (down, across)))  # fmt: skip


def _describe(thumbnails: np.ndarray, orientation: Orientation = (False, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Of the turned thumbnails a perceptual hash (N,) uint64, and bounds (N, …) float32 of their detail.

    The hash tells which of the slowest terms are above their median (Zauner 2010, pHash). The product of two rows of
    bounds is never below the correlation of the details: the lowest terms stand there themselves, of the others the
    lengths of a few parts (inequality of Cauchy and Schwarz).
    """
    swapped, down, across = orientation
    turned = (thumbnails.swapaxes(1, 2) if swapped else thumbnails)[:, ::down, ::across]
    hashes, bounds = [], []
    rings = np.digitize(_FREQUENCY, (_DETAIL, *_RINGS))
    for part in _chunks(turned):
        terms = _terms(np.ascontiguousarray(part))
        slow = terms[:, :8, :8].reshape(-1, 64)
        bits = slow > np.median(slow[:, 1:], axis=1, keepdims=True)
        hashes.append(np.packbits(bits, axis=1).view(np.uint64)[:, 0])
        lengths = [np.linalg.norm(terms[:, rings == ring], axis=1, keepdims=True) for ring in range(2, rings.max() + 1)]
        bounds.append(_unit(np.concatenate([terms[:, rings == 1], *lengths], axis=1)))
    return np.concatenate(hashes), np.concatenate(bounds)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _chunks(thumbnails: np.ndarray) -> Iterator[np.ndarray]:
    return (thumbnails[start : start + _CHUNK] for start in range(0, len(thumbnails), _CHUNK))


def thumbnails_of(dataset: Dataset, cache: Path | None, problems: Problems) -> np.ndarray:
    """(N, SIDE, SIDE) uint8, zeros of an even image, as `find_duplicates` needs and caches them.

    Each file is read once, for its digest and, where that is unknown, for its pixels.
    """
    paths = [record.path for record in dataset.records]
    file = cache / f"thumbnails-{key_of(paths)}.npz" if cache and paths else None
    held = load_arrays(file)
    known = {}
    if held.keys() == {"keys", "thumbnails"} and held["thumbnails"].shape == (len(held["keys"]), SIDE, SIDE):
        known = dict(zip(held["keys"].tolist(), held["thumbnails"], strict=True))
    even = np.zeros((SIDE, SIDE), np.uint8)
    made: dict[bytes, np.ndarray] = {}

    def make(row: int) -> np.ndarray:
        key = hashlib.sha256(dataset.records[row].content().encode()).hexdigest()[:32].encode()
        found = known.get(key)
        if found is None:
            found = thumbnail(dataset.image(row))
        made[key] = found
        return found

    with remembered_digests(cache, paths):
        found = map_images(dataset, list(range(len(dataset))), make, even, problems)
    if made.keys() != known.keys():
        save_arrays(file, keys=np.array(list(made), "S32"), thumbnails=np.array(list(made.values())))
    return np.stack(found) if found else np.zeros((0, SIDE, SIDE), np.uint8)
