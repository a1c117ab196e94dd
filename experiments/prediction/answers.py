"""What was found in an item as plain data, and back: the served model's answer, an item with several frames a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from experiments.prediction.inputs import Item
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

__all__ = ["answer_of", "detections_of", "frames_of", "of_several"]


def answer_of(found: Detections, class_names: Sequence[str], findings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"width", "height", "instances", "findings", "notice"}`, as the served model answers."""
    from trackers.packaging.served import as_dict  # imports MLflow

    return as_dict(found, *found.instances.shape[1:], tuple(class_names), dict(findings))


def of_several(answers: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """`{"frames": [{"frame", "width", …}, …], "notice"}`."""
    from trackers.packaging.served import NOTICE  # imports MLflow

    return {"frames": [{"frame": number, **answer} for number, answer in answers.items()], "notice": NOTICE}


def frames_of(written: Mapping[str, Any]) -> list[tuple[int | None, Mapping[str, Any]]]:
    """(number, answer) of each frame of what was written for an item; the number is None of a single image."""
    if "frames" in written:
        return [(frame["frame"], frame) for frame in written["frames"]]
    return [(None, written)]


def detections_of(answer: Mapping[str, Any], class_names: Sequence[str]) -> Detections:
    """The detections that an answer was made from."""
    instances, size = answer["instances"], (answer["height"], answer["width"])
    if not instances:
        return Detections.empty(*size)
    boxes = np.array([instance["bbox"] for instance in instances], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes,
        np.array([instance["score"] for instance in instances], np.float32),
        np.array([class_names.index(instance["class"]) + 1 for instance in instances], np.int32),
        InstanceMasks(*size, [instance["segmentation"]["counts"].encode("ascii") for instance in instances]),
    )


EVERY = frozenset({"image", "dicom", "series", "volume", "case", "video"})
CARRIED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "coco": EVERY,
        "findings": EVERY,
        "overlay": EVERY,
        "splash": EVERY,
        "mask": frozenset({"image", "dicom"}),
        "nifti": frozenset({"volume", "case"}),
        "dicom_seg": frozenset({"dicom", "series"}),
    }
)
"""Form → kinds of `Item` that it can be written of. The JSON of each input is always written."""
TOGETHER = frozenset({"coco", "findings"})
"""Forms of which there is one file for all inputs."""
DEFAULT = ("coco", "findings", "mask", "nifti", "overlay")
"""Without `dicom_seg`, which points at its source, and `splash`, which shows nothing that the overlay does not."""
_NEEDS = {
    "mask": "a single image (nifti or dicom_seg hold volumes)",
    "nifti": "a NIfTI volume",
    "dicom_seg": "DICOM",
}


def check_forms(asked: Sequence[str]) -> tuple[str, ...]:
    """The forms asked for, in the table's order. Raises `InputError` for one that does not exist."""
    for form in asked:
        if form not in CARRIED:
            raise InputError(f"--write {form}: expected some of {', '.join(CARRIED)}")
    return tuple(form for form in CARRIED if form in asked)


def own_forms(forms: Sequence[str], kind: str) -> frozenset[str]:
    """The forms of which an input of this kind gets a file of its own."""
    return frozenset({"json", *(form for form in forms if kind in CARRIED[form] and form not in TOGETHER)})


def cannot_carry(forms: Sequence[str], items: Sequence[Item]) -> list[str]:
    """A line for each form that was asked for and that some inputs cannot carry.

    Raises:
        InputError: a form that none of the inputs can carry.
    """
    lines = []
    for form in forms:
        without = [item for item in items if item.kind not in CARRIED[form]]
        if not without:
            continue
        kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(item.kind for item in without).items())
        if len(without) == len(items):
            raise InputError(f"--write {form}: {without[0].source}: needs {_NEEDS[form]}; the inputs are {kinds}")
        lines.append(f"{form} needs {_NEEDS[form]}: not written for {len(without)} of {len(items)} inputs, {kinds}")
    return lines
