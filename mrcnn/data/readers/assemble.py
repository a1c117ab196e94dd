"""From what a reader found, image by image and instance by instance, to a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset, Record
from mrcnn.data.readers.problems import Problems, summarize_names
from mrcnn.data.readers.segmentation import boxes_and_areas


def assemble(
    class_names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    owners: Sequence[int],
    class_ids: Sequence[int],
    runs: Sequence[bytes],
    wheres: Sequence[str],
    warnings: Sequence[str],
    problems: Problems,
    crowds: Sequence[tuple[int, int, bytes]] = (),
) -> Dataset:
    """The data set of `rows`, in their order; instances without any pixel are left out, with a warning.

    Args:
        rows: what `Record` holds of each image but its instances.
        owners: for each instance the position of its image in `rows`.
        class_ids: for each instance, 1-based.
        runs: for each instance its COCO run-length string.
        wheres: for each instance what a message calls it.
        problems: what `Dataset.faults` tells.
        crowds: of each region of a crowd the position of its image in `rows`, its class id and run-length string.
    """
    warnings = [*warnings, *_differing_in_case(class_names)]
    owners, class_ids = np.asarray(owners, np.int64), np.asarray(class_ids, np.int32)
    boxes, areas = boxes_and_areas(list(runs), [(rows[owner]["height"], rows[owner]["width"]) for owner in owners])
    # A polygon may cover no pixel centre; such an instance can neither be learnt nor found.
    if empty := [wheres[index] for index in np.flatnonzero(areas == 0)]:
        warnings = [*warnings, summarize_names("annotations without any pixel are left out", empty)]
    seen, twice = set(), []
    for where, drawn in zip(wheres, zip(owners.tolist(), runs, strict=True), strict=True):
        twice += [where] if drawn in seen else []
        seen.add(drawn)
    if twice:
        warnings = [
            *warnings,
            summarize_names("annotations are drawn twice, another of their image has the same mask", twice),
        ]
    order = np.argsort(owners, kind="stable")
    order = order[areas[order] > 0]
    by_image = np.split(order, np.searchsorted(owners[order], np.arange(1, len(rows))))
    crowd_ids: list[list[int]] = [[] for _ in rows]
    crowd_runs: list[list[bytes]] = [[] for _ in rows]
    for owner, class_id, region in crowds:
        crowd_ids[owner].append(class_id)
        crowd_runs[owner].append(region)
    records = [
        Record(**row, class_ids=class_ids[mine], boxes=boxes[mine], areas=areas[mine], crowd_ids=tuple(crowd))
        for row, mine, crowd in zip(rows, by_image, crowd_ids, strict=True)
    ]
    return Dataset(
        class_names,
        records,
        [[runs[index] for index in mine] for mine in by_image],
        warnings,
        problems,
        crowds=crowd_runs,
    )


def _differing_in_case(class_names: Sequence[str]) -> list[str]:
    alike = defaultdict(list)
    for name in class_names:
        alike[name.casefold()].append(name)
    return [
        f"the classes {' and '.join(map(repr, names))} differ in letter case alone and stay separate "
        "classes; rename them in the annotations if they mean the same"
        for names in alike.values()
        if len(names) > 1
    ]
