"""Find near-duplicate images: copies that were rotated, mirrored, rescaled, recolored or compressed.

Annotated sets are often augmented before publication, or collected from overlapping sources. A split by patient alone
can put such copies into both training and test data.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

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
_TILE = (128, 2048)  # rows and columns per comparison; fits into the processor's cache
_LENGTHS = (16, 32, 64)  # coordinates of a detail vector per comparison
_SAMPLE = 512  # thumbnails from which the coordinates and their number are chosen
_MOST_PAIRS = 1 << 20  # held in memory at once
_MOST_THREADS = 16
_CHUNK = 4096  # thumbnails per transform
_VERSION = 2  # increase when the same thumbnails give other groups
_FREQUENCY = np.add.outer(np.arange(SIDE), np.arange(SIDE))

Orientation = tuple[bool, int, int]
"""Whether the axes are swapped, then the direction (1 or -1) of rows and of columns."""
ORIENTATIONS: tuple[Orientation, ...] = tuple(product((False, True), (1, -1), (1, -1)))
_UPRIGHT = ORIENTATIONS[0]


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
    terms = np.empty((count, SIDE, SIDE), np.float32)
    for start in range(0, count, _CHUNK):
        part = np.s_[start : start + _CHUNK]
        terms[part] = np.asarray(dctn(thumbnails[part].astype(np.float32), axes=(1, 2), norm="ortho"))
    # Threads within the matrix products of these threads would only wait for each other.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads:
        basis, hashes_first = _choose_tests(terms)
        plain = _describe(terms, basis, _UPRIGHT)
        for orientation in ORIENTATIONS:
            turned = _describe(terms, basis, orientation)

            def find(
                start: int, turned: Described = turned, orientation: Orientation = orientation
            ) -> list[tuple[np.ndarray, np.ndarray]]:
                """Return the matching pairs of this block that are not yet in one group."""
                found = []
                for row, column in _candidates(plain, turned, start, hashes_first):
                    apart = groups[row] != groups[column]
                    row, column = row[apart], column[apart]
                    alike = _correlate(terms, row, column, orientation)
                    found.append((row[alike], column[alike]))
                return found

            matches, waiting = [], 0
            for found in threads.map(find, range(0, count, _BLOCK)):
                matches += found
                waiting += sum(len(row) for row, _ in found)
                if waiting > count // 8:  # joining costs as much as the number of thumbnails
                    groups[:], matches, waiting = _join(groups, matches), [], 0
            if waiting:
                groups[:] = _join(groups, matches)
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


Described = tuple[np.ndarray, np.ndarray]
"""Hashes (N,) uint64 and bounds (N, D + 1) float32 from `_describe`."""


def _candidates(
    plain: Described, turned: Described, start: int, hashes_first: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (row, column) that may match, for the rows of the block at `start`.

    Each pair is tested in one order only, since the inverse of a symmetry is also one of the eight. The second test is
    made on all pairs of a tile where the first rejects too few, as hashes do for images of one view.
    """
    by_hash, by_bounds = _hash_test(), _bounds_test()
    hashes, bounds = ((one[start : start + _BLOCK], other[start:]) for one, other in zip(plain, turned, strict=True))
    found: list[tuple[np.ndarray, np.ndarray]] = []
    pairs = 0
    for top in range(0, len(hashes[0]), _TILE[0]):
        rows = np.s_[top : top + _TILE[0]]
        for left in range(0, len(hashes[1]), _TILE[1]):
            columns = np.s_[left : left + _TILE[1]]
            tests = [partial(by_hash, hashes[0][rows], hashes[1][columns]),
                     partial(by_bounds, bounds[0][rows], bounds[1][columns])]  # fmt: skip
            close = tests[not hashes_first]()
            many = np.count_nonzero(close) * 64 > close.size
            if many:
                close &= tests[hashes_first]()
            row, column = np.divmod(np.flatnonzero(close), close.shape[1])  # np.nonzero is ten times slower
            row, column = top + row, left + column
            if not (hashes_first or many):
                near = np.bitwise_count(hashes[0][row] ^ hashes[1][column]) <= MOST_BITS
                row, column = row[near], column[near]
            found.append((start + row, start + column))
            pairs += len(row)
            if pairs > _MOST_PAIRS:
                yield np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])
                found, pairs = [], 0
    if pairs:
        yield np.concatenate([row for row, _ in found]), np.concatenate([column for _, column in found])


PairTest = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps values of R rows and C columns to (R, C) bool: which pairs are not rejected."""


def _hash_test() -> PairTest:
    differing, bits = np.empty(_TILE, np.uint64), np.empty(_TILE, np.uint8)

    def test(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        part = np.s_[: len(rows), : len(columns)]
        np.bitwise_xor(rows[:, None], columns[None], out=differing[part])
        return np.bitwise_count(differing[part], out=bits[part]) <= MOST_BITS

    return test


def _bounds_test() -> PairTest:
    products = np.empty(_TILE, np.float32)

    def test(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        product = products[: len(rows), : len(columns)]
        return np.matmul(rows, columns.T, out=product) >= LEAST_CORRELATION - 1e-4

    return test


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


def _join(groups: np.ndarray, matches: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Join the groups (N,) of matching thumbnails (rows, columns); a group is named by its first member."""
    rows, columns = (groups[np.concatenate(each)] for each in zip(*matches, strict=True))
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(groups),) * 2)
    joined = connected_components(links, directed=False)[1][groups]
    _, first, group = np.unique(joined, return_index=True, return_inverse=True)
    return first[group]


def _turn(terms: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Transform cosine terms (N, S, S) like turned images: mirroring negates every second term."""
    swapped, down, across = orientation
    signs = (np.power(sign, np.arange(terms.shape[1]), dtype=np.float32) for sign in (down, across))
    return (terms.swapaxes(1, 2) if swapped else terms) * np.outer(*signs)


def _choose_tests(terms: np.ndarray) -> tuple[np.ndarray, bool]:
    """Choose the bounds of the details, and the first of the two tests, that reject the pairs of a sample fastest.

    Returns:
        Orthonormal directions (D, SIDE, SIDE) in which the details of the sample differ most, and whether the hashes
        are compared first.
    """
    sample = terms[np.unique(np.linspace(0, len(terms) - 1, _SAMPLE).astype(int))]
    _, _, directions = np.linalg.svd(_details(sample), full_matrices=False)
    basis = directions[: max(_LENGTHS)].reshape(-1, SIDE, SIDE)

    # Nanoseconds a pair, measured on one core; each pair that is left costs about 50 more.
    hashes, _ = _describe(sample, basis, _UPRIGHT)
    costs = {0: 1.6 + 50 * np.mean(np.bitwise_count(hashes[:, None] ^ hashes) <= MOST_BITS)}
    for length in _LENGTHS:
        _, bounds = _describe(sample, basis[:length], _UPRIGHT)
        costs[length] = 0.6 + length / 40 + 50 * np.mean(bounds @ bounds.T >= LEAST_CORRELATION)
    chosen = min(costs, key=costs.__getitem__)
    return basis[: chosen or None], not chosen


def _details(terms: np.ndarray) -> np.ndarray:
    """Return the unit vectors (N, SIDE²) of the detail terms; zeros for an image without any."""
    return _unit(np.where(_FREQUENCY < _DETAIL, 0, terms).reshape(-1, SIDE**2))


def _describe(terms: np.ndarray, basis: np.ndarray, orientation: Orientation) -> Described:
    """Compute a perceptual hash (N,) uint64 and bounds (N, D + 1) float32 of turned thumbnails.

    The hash marks which low-frequency terms exceed their median (Zauner 2010, pHash); the terms are rounded, so that
    those of symmetric images are 0 in each orientation. The product of two rows of bounds is an upper bound of the
    detail correlation: a row has the coordinates of the details in `basis` (D, SIDE, SIDE) and the norm of the rest
    (Cauchy-Schwarz inequality).
    """
    swapped, down, across = orientation
    # The products of turned terms and the basis are those of the terms and the basis turned back.
    back = _turn(basis, (swapped, across, down) if swapped else orientation).reshape(-1, SIDE**2).T
    hashes, bounds = np.empty(len(terms), np.uint64), np.empty((len(terms), len(basis) + 1), np.float32)
    for start in range(0, len(terms), _CHUNK):
        part = np.s_[start : start + _CHUNK]
        slow = np.round(_turn(terms[part, :8, :8], orientation), 1).reshape(-1, 64)
        bits = slow > np.median(slow[:, 1:], axis=1, keepdims=True)
        hashes[part] = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
        details = _details(terms[part])
        bounds[part, :-1] = details @ back
        rest = (details**2).sum(axis=1) - (bounds[part, :-1] ** 2).sum(axis=1)
        bounds[part, -1] = np.sqrt(np.maximum(rest, 0))
    return hashes, bounds


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def make_thumbnails(
    dataset: Dataset, cache: Path | None, problems: Problems, advance: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Load thumbnails (N, SIDE, SIDE) uint8 from the cache, or compute and save them.

    Constant images and images that cannot be read, which are added to `problems`, become zeros. `advance` is called
    after each image.
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
        found = map_images(dataset, list(range(len(dataset))), make, even, problems, advance)
    if made.keys() != known.keys():
        save_arrays(file, keys=np.array(list(made), "S32"), thumbnails=np.array(list(made.values())))
    return np.stack(found) if found else np.zeros((0, SIDE, SIDE), np.uint8)
