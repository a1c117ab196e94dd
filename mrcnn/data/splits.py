"""Split a data set by patient into training, validation and test, or into folds, with similar class distributions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mrcnn.data.dataset import Dataset, names_patients
from mrcnn.errors import InputError, counted

SPLITS = ("train", "val", "test")
_TRIES = 30
_PATIENTS_TRIED = 3000  # patients assigned over all tries; large sets need fewer tries


def split_by_patient(
    dataset: Dataset,
    *,
    train: float = 0.8,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Split the images so that no patient and no group of near-duplicates is in two splits.

    `train`, `val` and `test` are shares of the images. The split approximates them with whole patients for all images,
    images without instances, and images of each class at once. Each split with a share above 0 gets at least one
    patient, and train gets every class if possible. The result depends on the seed, not on the order of the records.

    Args:
        dataset: data set with N images.
        train: share of the training split, above 0.
        val: share of the validation split.
        test: share of the test split.
        seed: seed of the assignment.
        groups: (N,) group number of each image from `find_duplicates`; a group stays together, and patients who share
            a group count as one.

    Returns:
        The sorted positions of the images, int64, for "train", "val" and "test".

    Raises:
        InputError: the shares are negative or do not sum to 1, or there are fewer patients than splits.
    """
    shares = np.array([train, val, test], np.float64)
    if not (shares >= 0).all() or abs(shares.sum() - 1) > 1e-6 or train == 0:
        raise InputError(f"split {train}, {val}, {test}: expected train above 0, none below 0, and a sum of 1")
    owner = _owners(dataset, groups)
    wanted = np.flatnonzero(shares)
    _require(dataset, owner, len(wanted), ", ".join(SPLITS[split] for split in wanted))
    split_of = wanted[_best_placement(_traits(dataset, owner), shares[wanted], seed)][owner]
    return {name: np.flatnonzero(split_of == split) for split, name in enumerate(SPLITS)}


def folds_by_patient(
    dataset: Dataset, folds: int, *, seed: int = 0, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """Divide the images into folds for cross-validation so that no patient and no group is in two folds.

    Folds have similar numbers of images, images without instances, and images of each class. Seed and groups are as in
    `split_by_patient`.

    Returns:
        The sorted positions of the images of each fold, int64.

    Raises:
        InputError: there are fewer patients than folds.
    """
    owner = _owners(dataset, groups)
    _require(dataset, owner, folds, f"{folds} folds")
    shares = np.full(folds, 1 / folds)
    fold_of = _best_placement(_traits(dataset, owner), shares, seed, keep_classes=False)[owner]
    return [np.flatnonzero(fold_of == fold) for fold in range(folds)]


def _require(dataset: Dataset, owner: np.ndarray, minimum: int, of: str) -> None:
    count = owner.max(initial=-1) + 1
    if count < minimum:
        joined = len({record.patient_id for record in dataset.records}) > count
        of_one, of_many = ("patient", "patients") if names_patients(dataset.records) else ("image", "images")
        if joined:
            alike = "near-duplicate images" if of_one == "image" else "patients with near-duplicate images"
            of_one, of_many = f"group of {alike}", f"groups of {alike}"
        raise InputError(f"{counted(count, of_one, of_many)}: expected at least {minimum}, one for each of {of}")


def _traits(dataset: Dataset, owner: np.ndarray) -> np.ndarray:
    """Count images, images without instances, and images of each class per patient: (P, 2 + C)."""
    traits = np.zeros((owner.max(initial=-1) + 1, 2 + len(dataset.class_names)))
    for row, record in zip(owner, dataset.records, strict=True):
        traits[row, 0] += 1
        traits[row, 1] += len(record.class_ids) == 0
        traits[row, 1 + np.unique(record.class_ids)] += 1
    return traits


def check_splits(dataset: Dataset, splits: Mapping[str, Iterable[int]], groups: np.ndarray | None = None) -> None:
    """Raise `InputError` if a patient or a group of near-duplicates is in two splits; the message names two images."""
    seen: dict[tuple[str, str | int], tuple[str, str]] = {}
    for name, indices in splits.items():
        chosen = [int(index) for index in indices]
        found = {("patient", dataset.records[index].patient_id): index for index in reversed(chosen)}
        if groups is not None:
            found |= {("group of near-duplicate images", int(groups[index])): index for index in reversed(chosen)}
        for (kind, key), index in found.items():
            image = dataset.records[index].file_name
            if (kind, key) in seen:
                other, first = seen[kind, key]
                raise InputError(
                    f"{kind} {key!r} is in {other} ({first}) and in {name} ({image}); expected one split only"
                )
            seen[kind, key] = name, image


def find_stated_splits(
    dataset: Dataset, groups: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray] | None, list[str]]:
    """Return the splits that an annotation tool states, and a line for the user: which are used, or why they are not.

    The tool's splits are used if they place every image, and no patient and no group of near-duplicates is in two.

    Returns:
        The sorted positions of the images, int64, for "train", "val" and "test", or None; and warnings.
    """
    stated = [record.split for record in dataset.records]
    splits = {name: np.flatnonzero([split == name for split in stated]) for name in SPLITS}
    if sum(len(indices) > 0 for indices in splits.values()) < 2:
        return None, []
    counts = ", ".join(f"{name} {len(indices)}" for name, indices in splits.items())
    refusal = f"the splits of the annotation tool ({counts} images) are not used, data are split by patient: "
    if unplaced := [record.file_name for record in dataset.records if record.split is None]:
        return None, [f"{refusal}{counted(len(unplaced), 'image is', 'images are')} in none, such as {unplaced[0]}"]
    if not len(splits["train"]) or not len(splits["val"]):
        return None, [f"{refusal}expected at least train and val"]
    try:
        check_splits(dataset, splits, groups)
    except InputError as error:
        return None, [f"{refusal}{error}"]
    without_test = "" if len(splits["test"]) else "; there is no test split, so results are reported on val"
    return splits, [f"the splits of the annotation tool are used: {counts} images{without_test}"]


def subsample_negatives(dataset: Dataset, indices: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Select of `indices` (N,) all images with instances, and a random subset of those without, in their order.

    `share`, 0 … 1, is that of images without instances in the result; all of them are selected if there are fewer. For
    slices of volumes, most of which are empty.
    """
    empty = np.array([len(dataset.records[index].class_ids) == 0 for index in indices], bool)
    filled = int((~empty).sum())
    wanted = int(empty.sum()) if share == 1 else min(int(empty.sum()), round(filled * share / (1 - share)))
    chosen = np.random.default_rng(seed).choice(np.flatnonzero(empty), wanted, replace=False)
    return indices[np.sort(np.concatenate([np.flatnonzero(~empty), chosen]))]


def _owners(dataset: Dataset, groups: np.ndarray | None) -> np.ndarray:
    """Return (N,) the number of the patient, or set of patients joined by groups, of each image.

    Numbers follow the order of patient names; a pseudonym, which differs between machines, is ordered by the patient's
    first file name.
    """
    names: dict[str, tuple[str, bool]] = {}
    for record in dataset.records:
        name = record.file_name if record.pseudonymous else record.patient_id
        names[record.patient_id] = min(names.get(record.patient_id, (name, True)), (name, record.pseudonymous))
    patients = sorted(names, key=names.__getitem__)
    position = {patient: row for row, patient in enumerate(patients)}
    owner = np.array([position[record.patient_id] for record in dataset.records], np.int64)
    if groups is None or not len(owner):
        return owner
    # Bipartite graph of patients and groups with one edge per image.
    count = len(patients) + int(np.max(groups)) + 1
    links = coo_array((np.ones(len(owner), np.int8), (owner, len(patients) + np.asarray(groups))), shape=(count, count))
    component = connected_components(links, directed=False)[1][: len(patients)]
    _, first, joined = np.unique(component, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[joined][owner]


def _best_placement(traits: np.ndarray, shares: np.ndarray, seed: int, keep_classes: bool = True) -> np.ndarray:
    """Compute the split (P,) of each patient: the best of several greedy assignments.

    `traits` (P, 2 + C) are from `_traits`. `shares` (S,) are above 0, train first, which gets every class if possible
    and `keep_classes`.
    """
    rng = np.random.default_rng(seed)
    totals = traits.sum(axis=0)
    relative = traits / np.maximum(totals, 1)
    # The number of images weighs as much as all other counts together, since the shares refer to it.
    weights = np.where(totals > 0, 1.0, 0.0)
    weights[0] = max(weights[1:].sum(), 1.0)
    best, least = None, np.inf
    for _ in range(max(1, min(_TRIES, _PATIENTS_TRIED // len(traits)))):
        # Assign patients with many images first; the random factor varies the order between tries.
        order = np.argsort(-relative @ weights * rng.uniform(0.5, 1.5, len(traits)), kind="stable")
        placement = _place(order, relative, weights, shares, keep_classes)
        filled = np.stack([relative[placement == split].sum(axis=0) for split in range(len(shares))])
        cost = (weights * (filled - shares[:, None]) ** 2 / shares[:, None]).sum()
        if cost < least:
            best, least = placement, cost
    assert best is not None  # no cost is infinite, since all shares are above 0
    return best


def _place(
    order: np.ndarray, relative: np.ndarray, weights: np.ndarray, shares: np.ndarray, keep_classes: bool
) -> np.ndarray:
    """Assign each patient in `order` to the split that least increases the chi-squared distance to the shares."""
    carries = relative[:, 2:] > 0
    placement = np.empty_like(order)
    filled = np.zeros((len(shares), relative.shape[1]))
    # Patients of each class that are still available to train; at least one must remain if possible.
    left = carries.sum(axis=0)
    needed = (left > 0).astype(int)
    if not keep_classes or not _can_fill(carries, left - needed, len(shares) - 1):
        needed[:] = 0
    unused = set(range(len(shares)))
    for done, patient in enumerate(order, start=1):
        rest = order[done:]
        growth = (weights * relative[patient] * (2 * (filled - shares[:, None]) + relative[patient])).sum(axis=1)
        for split in np.argsort(growth / shares, kind="stable"):
            left_then = left - (carries[patient] if split else 0)
            empty = unused - {int(split)}
            if len(rest) < len(empty) or not (left_then >= needed).all():
                continue
            if not empty or _can_fill(carries[rest], left_then - needed, len(empty - {0})):
                break
        placement[patient] = split
        unused.discard(int(split))
        filled[split] += relative[patient]
        left = left_then
    return placement


def _can_fill(carries: np.ndarray, spare: np.ndarray, splits: int) -> bool:
    """Check that `splits` patients (P, C) can leave train if train can lose `spare` (C,) patients of each class."""
    able = carries[(spare - carries >= 0).all(axis=1)]
    return any((spare - np.sum(chosen, axis=0) >= 0).all() for chosen in combinations(able, splits))
