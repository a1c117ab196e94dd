"""What was found in an item as plain data, and back: the served model's answer, an item with several frames a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.detections import Detections
from mrcnn.instance_masks import InstanceMasks
from trackers.served import NOTICE, as_dict

__all__ = ["answer_of", "detections_of", "frames_of", "of_several"]


def answer_of(found: Detections, class_names: Sequence[str], findings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"width", "height", "instances", "findings", "notice"}`, as the served model answers."""
    return as_dict(found, *found.instances.shape[1:], tuple(class_names), dict(findings))


def of_several(answers: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """`{"frames": [{"frame", "width", …}, …], "notice"}`."""
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
        return Detections.none(*size)
    boxes = np.array([instance["bbox"] for instance in instances], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    return Detections(
        boxes,
        np.array([instance["score"] for instance in instances], np.float32),
        np.array([class_names.index(instance["class"]) + 1 for instance in instances], np.int32),
        InstanceMasks(*size, [instance["segmentation"]["counts"].encode("ascii") for instance in instances]),
    )
