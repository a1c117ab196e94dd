"""Find near-duplicate images: copies that were rotated, mirrored, rescaled, recolored or compressed.

Annotated sets are often augmented before publication, or collected from overlapping sources. A split by patient alone
can put such copies into both training and test data.
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
from mrcnn.data.digest import dataset_key, digest_cache, load_arrays, save_arrays
from mrcnn.data.problems import Problems
from mrcnn.data.validation import map_images

SIDE = 32  # of a thumbnail in pixels; a perceptual hash uses its 8×8 lowest frequencies
MOST_BITS = 16  # maximum Hamming distance of 64-bit hashes; a fast first filter
LEAST_CORRELATION = 0.9
"""Minimum correlation of two thumbnails, and of their high frequencies alone, since heads or chests in one position
differ only in these. Chosen on inspected pairs, see docs/explanation/splits.md."""

_DETAIL = 8  # minimum sum of the two frequencies of a cosine term that counts as detail
_AVERAGE = Image.Resampling.BOX
_BLOCK = 512  # rows of the matrix of all pairs per thread task
_TILE = (16, 8192)  # rows and columns per comparison; fits into the processor's cache
_MOST_PAIRS = 1 << 20  # held in memory at once
_MOST_THREADS = 16
_CHUNK = 4096  # thumbnails per transform
_VERSION = 1  # increase when the same thumbnails give other groups
_FREQUENCY = np.add.outer(np.arange(SIDE), np.arange(SIDE))
_RINGS = (11, 14, 19)  # detail terms below the first are compared individually, the others by the norm of each ring


def find_duplicates(dataset: Dataset, cache: Path | None = None, problems: Problems | None = None) -> np.ndarray:
    """Return (N,) int64 the group number of each image; near-duplicates share a group.

    Opens every image, in threads, unless its thumbnail is cached.

    Args:
        dataset: data set with N images.
        cache: folder for file digests, thumbnails and groups, or None.
        problems: collects images that cannot be read; each of them gets its own group.

    Raises:
        InputError: `problems` is None and images cannot be read; the message lists all of them.
    """
    found = Problems("images") if problems is None else problems
    thumbnails = make_thumbnails(dataset, cache, found)
    if problems is None:
        found.raise_if_any()
    return cached_groups(thumbnails, cache)


def cached_groups(thumbnails: np.ndarray, cache: Path | None) -> np.ndarray:
    """Load the result of `group_duplicates` from the folder `cache`, or compute and save it."""
    file = cache and cache / f"groups-{_VERSION}-{hashlib.sha256(thumbnails.data).hexdigest()[:32]}.npz"
    groups = load_arrays(file).get("groups")
    if groups is None or groups.shape != (len(thumbnails),):
        groups = group_duplicates(thumbnails)
        save_arrays(file, groups=groups)
    return groups


def find_near_copies(thumbnails: np.ndarray, others: np.ndarray, cache: Path | None) -> np.ndarray:
    """Return (N,) bool: which of `thumbnails` (N, SIDE, SIDE) share a group with any of `others` (M, SIDE, SIDE)."""
    groups = cached_groups(np.concatenate([thumbnails, others]), cache)
    return np.isin(groups[: len(thumbnails)], groups[len(thumbnails) :])


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Reduce an image (H, W, C) of any type to a gray thumbnail (SIDE, SIDE) uint8, scaled to its own value range."""
    colors = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    # Averaging the channels last keeps a large uint8 image uint8 until it is small.
    small = [
        np.asarray(Image.fromarray(np.ascontiguousarray(colors[..., channel])).resize((SIDE, SIDE), _AVERAGE))
        for channel in range(colors.shape[2])
    ]
    gray = np.mean(small, axis=0, dtype=np.float64)
    gray -= gray.min()
    return np.rint(gray * (255 / max(gray.max(), 1e-6))).astype(np.uint8)


def group_duplicates(thumbnails: np.ndarray) -> np.ndarray:
    """Group thumbnails (N, SIDE, SIDE) uint8 that match in one of the eight symmetries of a square: (N,) int64.

    A constant thumbnail matches no other.
    """
    count = len(thumbnails)
    groups = np.arange(count)  # position of the first member of each group; threads read it while it changes
    if not count:
        return groups
    terms = np.concatenate([_terms(part) for part in _chunks(thumbnails)])
    plain = _describe(thumbnails)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads:
        for orientation in product((False, True), (1, -1), (1, -1)):
            turned = _describe(thumbnails, orientation)

            def find(
                start: int, turned: Described = turned, orientation: Orientation = orientation
            ) -> list[tuple[np.ndarray, np.ndarray]]:
                """Return the matching pairs of this block that are not yet in one group."""
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
"""Hashes (N,) uint64 and bounds (N, …) float32 from `_describe`."""


def _candidates(plain: Described, turned: Described, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (row, column) that may match, for the rows of the block at `start`, by two fast tests.

    Each pair is tested in one order only, since the inverse of a symmetry is also one of the eight. If the hashes
    reject too few pairs, as for images of one view, the bounds of the detail correlation reject most of the rest.
    """
    hashes, bounds = plain
    differing, bits = np.empty(_TILE, np.uint64), np.empty(_TILE, np.uint8)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    pairs = 0
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
            row, column = np.divmod(np.flatnonzero(close), other.size)  # np.nonzero is ten times slower
            found.append((top + row, left + column))
            pairs += len(row)
            if pairs > _MOST_PAIRS:
                yield np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])
                found, pairs = [], 0
    if pairs:
        yield np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])


def _correlate(terms: np.ndarray, rows: np.ndarray, columns: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Return (P,) bool: which pairs correlate enough, in total and in detail, with the second thumbnail turned.

    The cosine transform is orthonormal, so products of terms without the first, the mean, are the correlations.
    """
    alike = np.ones(len(rows), bool)
    for least in (_DETAIL, 1):
        if not alike.any():
            break
        near, row = np.unique(rows[alike], return_inverse=True)
        far, column = np.unique(columns[alike], return_inverse=True)
        place = np.flatnonzero(least <= _FREQUENCY)
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
    """Join the groups (N,) of the thumbnails `rows` and `columns`; a group is named by its first member."""
    links = coo_array((np.ones(len(rows), np.int8), (groups[rows], groups[columns])), shape=(len(groups),) * 2)
    joined = connected_components(links, directed=False)[1][groups]
    _, first, group = np.unique(joined, return_index=True, return_inverse=True)
    return first[group]


Orientation = tuple[bool, int, int]
"""Whether the axes are swapped, then the direction (1 or -1) of rows and of columns."""


def _terms(thumbnails: np.ndarray) -> np.ndarray:
    """Compute the cosine terms (N, SIDE, SIDE) float32."""
    return np.asarray(dctn(thumbnails.astype(np.float32), axes=(1, 2), norm="ortho"))


def _turn(terms: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Transform cosine terms (N, SIDE, SIDE) like turned images: mirroring negates every second term."""
    swapped, down, across = orientation
    return (terms.swapaxes(1, 2) if swapped else terms) * np.outer(*(np.power(s, np.arange(SIDE), dtype=np.float32)
                                                                     for s in (down, across)))  # fmt: skip


def _describe(thumbnails: np.ndarray, orientation: Orientation = (False, 1, 1)) -> tuple[np.ndarray, np.ndarray]:
    """Compute a perceptual hash (N,) uint64 and detail bounds (N, …) float32 of the turned thumbnails.

    The hash marks which low-frequency terms exceed their median (Zauner 2010, pHash). The product of two rows of bounds
    is an upper bound of the detail correlation: a row has the lowest detail terms and the norms of rings of the other
    terms (Cauchy-Schwarz inequality).
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


def make_thumbnails(dataset: Dataset, cache: Path | None, problems: Problems) -> np.ndarray:
    """Load thumbnails (N, SIDE, SIDE) uint8 from the cache, or compute and save them.

    Constant images and images that cannot be read, which are added to `problems`, become zeros.
    """
    paths = [record.path for record in dataset.records]
    file = cache / f"thumbnails-{dataset_key(paths)}.npz" if cache and paths else None
    stored = load_arrays(file)
    known = {}
    if stored.keys() == {"keys", "thumbnails"} and stored["thumbnails"].shape == (len(stored["keys"]), SIDE, SIDE):
        known = dict(zip(stored["keys"].tolist(), stored["thumbnails"], strict=True))
    even = np.zeros((SIDE, SIDE), np.uint8)
    made: dict[bytes, np.ndarray] = {}

    def make(row: int) -> np.ndarray:
        key = hashlib.sha256(dataset.records[row].content_digest().encode()).hexdigest()[:32].encode()
        found = known.get(key)
        if found is None:
            found = thumbnail(dataset.image(row))
        made[key] = found
        return found

    with digest_cache(cache, paths):
        found = map_images(dataset, list(range(len(dataset))), make, even, problems)
    if made.keys() != known.keys():
        save_arrays(file, keys=np.array(list(made), "S32"), thumbnails=np.array(list(made.values())))
    return np.stack(found) if found else np.zeros((0, SIDE, SIDE), np.uint8)
