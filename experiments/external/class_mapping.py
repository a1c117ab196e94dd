"""Match the classes of a data set with those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrcnn.errors import InputError

ANY = "any"
"""The one class of a class-agnostic evaluation."""


@dataclass(frozen=True)
class ClassMapping:
    """Classes of an evaluation.

    Attributes:
        names: names of the class ids from 1.
        of_data: (K + 1,) int32, the class id of each class id of the data set; 0 stays 0.
        of_model: the same for the model.
        pairs: (class of the data, class of the model) that were matched.
        note: a sentence about classes of the model that the data lack, or an empty text.
    """

    names: tuple[str, ...]
    of_data: np.ndarray
    of_model: np.ndarray
    pairs: tuple[tuple[str, str], ...]
    note: str = ""


def map_classes(
    data: Sequence[str], model: Sequence[str], pairs: Sequence[tuple[str, str]] = (), *, class_agnostic: bool = False
) -> ClassMapping:
    """Match the classes of a data set with those of a model.

    Classes of one name match, unless `pairs` name the class of the data. Classes that are matched with the same class
    become one class: with `nodule` = `iso` and `nodule` = `hypo` both classes of the model count as `nodule`. With
    `class_agnostic` all instances and all detections count as of one class.

    Raises:
        InputError: a class of `pairs` does not exist, or a class of the data has no counterpart.
    """
    if class_agnostic:
        ones = [np.array([0] + [1] * len(names), np.int32) for names in (data, model)]
        return ClassMapping((ANY,), ones[0], ones[1], ())
    both = f"classes of the data: {', '.join(data)}; classes of the model: {', '.join(model)}"
    for one, other in pairs:
        if one not in data or other not in model:
            raise InputError(f"--map {one}={other}: expected a class of the data = a class of the model; {both}")
    named = {one for one, _ in pairs}
    links = [*pairs, *((name, name) for name in data if name in model and name not in named)]
    if unmapped := [name for name in data if name not in {one for one, _ in links}]:
        raise InputError(
            f"the model has no class {', '.join(unmapped)}; {both}; name the counterpart, such as "
            f"--map {unmapped[0]}={model[0]}, or use --class-agnostic"
        )
    group = {("model", name): number for number, name in enumerate(model)}
    for one, other in links:
        joined = group.setdefault(("data", one), group["model", other])
        replaced = group["model", other]
        group = {key: joined if number == replaced else number for key, number in group.items()}
    names = tuple(_name(number, group, data, model) for number in dict.fromkeys(group["model", name] for name in model))
    ids = {number: class_id for class_id, number in enumerate(dict.fromkeys(group["model", n] for n in model), start=1)}
    of_data, of_model = (
        np.array([0] + [ids[group[side, name]] for name in classes], np.int32)
        for side, classes in (("data", data), ("model", model))
    )
    note = ""
    if lacking := [name for name in model if name not in {other for _, other in links}]:
        note = f"The data have no class {', '.join(lacking)}: all detections of it count as false positives."
    return ClassMapping(names, of_data, of_model, tuple(links), note)


def _name(number: int, group: dict[tuple[str, str], int], data: Sequence[str], model: Sequence[str]) -> str:
    """Name a class after its one class of the model, else after the data."""
    of_model = [name for name in model if group["model", name] == number]
    of_data = [name for name in data if group.get(("data", name)) == number]
    return of_model[0] if len(of_model) == 1 else " + ".join(of_data)
