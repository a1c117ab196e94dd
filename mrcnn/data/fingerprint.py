"""Summarize a data set before training: counts, sizes, near-duplicates and warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, names_patients
from mrcnn.data.splits import check_splits
from mrcnn.errors import counted

SMALL, LARGE = 32**2, 96**2  # pixels; area limits of COCO (Lin et al. 2014, pycocotools)
_PAIRS = 3  # examples in a warning
GRAY_BINS = 16
SHARED = ("whole", "splits", "sizes", "sides", "relative_sides", "image_sizes", "duplicates", "polarity", "gray_levels")
"""Fields of `Fingerprint` that name no file and no patient, so that they may leave the house with a model."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class SplitSummary:
    """Count the content of one split, or of the whole data set; `instances` maps class names to counts."""

    patients: int
    images: int
    images_without_instances: int
    instances: dict[str, int]


@dataclass(frozen=True)
class DuplicateSummary:
    """Count groups of near-duplicates, the images in them, and groups with several patients."""

    groups: int
    images: int
    across_patients: int


@dataclass(frozen=True)
class Fingerprint:
    """Summarize a data set.

    Attributes:
        whole: counts of the data set.
        splits: counts of each split by name.
        sizes: number of `small`, `medium` and `large` instances by COCO's area limits in original pixels.
        sides: quantiles ("5%" … "95%") of the square root of the instance area in pixels; empty without instances.
        relative_sides: the same quantiles in percent of the square root of the image area.
        image_sizes: number of images of each "width×height", most frequent first.
        duplicates: counts of near-duplicates; None if they were not searched.
        warnings: notes for the user, one line each.
        skipped: problems of images and annotations that were left out, one line each.
        polarity: mean radiograph of the training split, see `mrcnn.data.film_polarity`, or None.
        gray_levels: gray-level histogram of the training split, see `gray_levels`; None if it was not computed.
        patients_named: False if no image names its patient, so that each counts as a patient of its own.
    """

    whole: SplitSummary
    splits: dict[str, SplitSummary]
    sizes: dict[str, int]
    sides: dict[str, float]
    image_sizes: dict[str, int]
    duplicates: DuplicateSummary | None
    warnings: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    polarity: tuple[float, ...] | None = None
    relative_sides: dict[str, float] = field(default_factory=dict)
    gray_levels: tuple[float, ...] | None = None
    patients_named: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Convert to numbers, strings, lists and dicts for JSON."""
        return asdict(self) | {"warnings": list(self.warnings), "skipped": list(self.skipped)}


def fingerprint(dataset: Dataset, splits: Mapping[str, Iterable[int]], groups: np.ndarray | None = None) -> Fingerprint:
    """Count the content of a data set and its splits, as returned by `split_by_patient`, without opening an image.

    `groups` (N,) are those of near-duplicates from `find_duplicates`.

    Raises:
        InputError: a patient or a group is in two splits.
    """
    records = dataset.records
    chosen = {name: [int(index) for index in indices] for name, indices in splits.items()}
    check_splits(dataset, chosen, groups)
    duplicates, messages = _duplicates(dataset, groups) if groups is not None else (None, [])
    whole = _count(dataset, range(len(records)))
    parts = {name: _count(dataset, indices) for name, indices in chosen.items()}
    areas = np.concatenate([record.areas for record in records]) if records else np.zeros(0)
    sides = np.sqrt(areas)
    image_areas = np.concatenate([np.full(len(each.areas), each.height * each.width) for each in records] or [areas])
    return Fingerprint(
        whole=whole,
        splits=parts,
        sizes={
            "small": int((areas < SMALL).sum()),
            "medium": int(((areas >= SMALL) & (areas < LARGE)).sum()),
            "large": int((areas >= LARGE).sum()),
        },
        sides=_quantiles(sides),
        relative_sides=_quantiles(100 * sides / np.sqrt(image_areas)),
        image_sizes=dict(Counter(f"{record.width}×{record.height}" for record in records).most_common()),
        duplicates=duplicates,
        warnings=(*dataset.warnings, *messages, *_missing_classes(whole, parts)),
        skipped=dataset.skipped,
        patients_named=names_patients(records),
    )


def gray_levels(thumbnails: np.ndarray) -> tuple[float, ...]:
    """Compute the gray-level histogram of images from their thumbnails (`mrcnn.data.duplicates.thumbnail`).

    Each image is scaled from its own darkest to its own brightest value, so images of different bit depths can be
    compared; all images count the same.

    Args:
        thumbnails: (N, side, side) uint8.

    Returns:
        Share of the pixels in each of `GRAY_BINS` equal ranges, dark first.

    Example:
        >>> gray_levels(np.array([[[0, 0], [128, 255]]], np.uint8))[:9]
        (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25)
    """
    counts = np.bincount(np.asarray(thumbnails).ravel() // (256 // GRAY_BINS), minlength=GRAY_BINS)
    return tuple(round(float(count), 4) for count in counts / max(counts.sum(), 1))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{share:.0%}": round(float(np.quantile(values, share)), 1) for share in _QUANTILES if len(values)}


def _count(dataset: Dataset, indices: Iterable[int]) -> SplitSummary:
    records = [dataset.records[index] for index in indices]
    class_ids = np.concatenate([record.class_ids for record in records]) if records else np.zeros(0, int)
    return SplitSummary(
        patients=len({record.patient_id for record in records}),
        images=len(records),
        images_without_instances=sum(len(record.class_ids) == 0 for record in records),
        instances={name: int((class_ids == class_id).sum()) for class_id, name in enumerate(dataset.class_names, 1)},
    )


def _duplicates(dataset: Dataset, groups: np.ndarray) -> tuple[DuplicateSummary, list[str]]:
    """Count groups with more than one image, and return warnings about them."""
    sizes = np.bincount(groups, minlength=1)
    patients: dict[int, set[str]] = {}
    for group, record in zip(groups.tolist(), dataset.records, strict=True):
        if sizes[group] > 1:
            patients.setdefault(group, set()).add(record.patient_id)
    across = sum(len(names) > 1 for names in patients.values())
    found = DuplicateSummary(len(patients), int(sizes[sizes > 1].sum()), across)
    if not patients:
        return found, []
    messages = (
        f"{found.images} of {len(groups)} images are nearly the same as another, copies turned, mirrored or "
        f"recolored included: {counted(found.groups, 'group')}, each kept in one split"
    )
    if across and names_patients(dataset.records):
        joined = counted(across, "of them joins", "of them join")
        messages += f"; {joined} patients who were named apart, and who now count as one"
    return found, [messages, *_disagreements(dataset, groups)]


@dataclass(frozen=True)
class Disagreement:
    """Name two near-duplicates whose annotations differ.

    Attributes:
        kind: `labels`, `classes`, or `empty` if only one of the two has instances.
        first: position of an image.
        second: position of the other.
        pairs: number of such pairs with the same two annotations in their group.
    """

    kind: str
    first: int
    second: int
    pairs: int


def find_disagreements(dataset: Dataset, groups: np.ndarray) -> list[Disagreement]:
    """Find images of one of `groups` (N,) whose labels or classes differ, one pair for each two annotations in a group.

    Pairs of slices of one volume are ignored: neighboring slices look alike but may be annotated differently.
    """
    found = []
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if len(members) < 2:
            continue
        by_content: dict[tuple[str | None, frozenset[int]], list[int]] = defaultdict(list)
        for index in members.tolist():
            record = dataset.records[index]
            by_content[record.label, frozenset(record.class_ids.tolist())].append(index)
        for one, other in combinations(by_content, 2):
            count, pair = _pairs(dataset, by_content[one], by_content[other])
            if pair is None:
                continue
            if one[1] != other[1]:
                found.append(Disagreement("classes" if one[1] and other[1] else "empty", *pair, count))
            if one[0] != other[0] and None not in (one[0], other[0]):
                found.append(Disagreement("labels", *pair, count))
    return found


def _disagreements(dataset: Dataset, groups: np.ndarray) -> list[str]:
    """Return a warning with count and examples for each kind of disagreement."""
    counts: Counter[str] = Counter()
    examples: dict[str, dict[int, str]] = defaultdict(dict)  # the first of each group
    for each in find_disagreements(dataset, groups):
        counts[each.kind] += each.pairs
        pair = (f"{dataset.records[index].file_name} ({describe_content(dataset, index)})"
                for index in (each.first, each.second))  # fmt: skip
        examples[each.kind].setdefault(int(groups[each.first]), " and ".join(pair))
    messages = {
        "labels": "different labels; one of the two may be wrong",
        "classes": "instances of different classes; one of the two may be wrong",
        "empty": "instances in one and none in the other; annotations may be missing, unless these are neighboring "
        "slices",
    }
    return [
        f"pairs of images, in {len(examples[kind])} of these groups, that have {what}: {counts[kind]}: "
        + "; ".join(list(examples[kind].values())[:_PAIRS])
        + ("; …" if counts[kind] > min(len(examples[kind]), _PAIRS) else "")
        for kind, what in messages.items()
        if counts[kind]
    ]


def _pairs(dataset: Dataset, ones: Sequence[int], others: Sequence[int]) -> tuple[int, tuple[int, int] | None]:
    """Count pairs of one image each, except pairs of one volume, and return the first pair."""
    places = {index: dataset.records[index].place for index in (*ones, *others)}
    volumes = [Counter(place.volume for index in part if (place := places[index])) for part in (ones, others)]
    count = len(ones) * len(others) - sum(number * volumes[1][name] for name, number in volumes[0].items())
    apart = (
        (one, other)
        for one in ones
        for other in others
        if not ((first := places[one]) and (second := places[other]) and first.volume == second.volume)
    )
    return count, next(apart, None)


def describe_content(dataset: Dataset, index: int) -> str:
    """Describe the label and the classes of an image: `labeled benign, nodule`."""
    record = dataset.records[index]
    names = [dataset.class_names[class_id - 1] for class_id in sorted(set(record.class_ids.tolist()))]
    return ", ".join([f"labeled {record.label}"] * (record.label is not None) + (names or ["no instance"]))


def _missing_classes(whole: SplitSummary, parts: Mapping[str, SplitSummary]) -> list[str]:
    found = []
    for class_name, count in whole.instances.items():
        if not count:
            found.append(f"class {class_name!r} has no instance")
            continue
        found += [
            f"class {class_name!r} has no instance in {name}"
            for name, part in parts.items()
            if part.images and not part.instances[class_name]
        ]
    return found
