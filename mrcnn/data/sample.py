"""The unit of data that every reader yields and everything after it consumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.instance_masks import InstanceMasks, MasksField

Spacing = tuple[float, float]
SPACING_MM = (1e-6, 1e4)
"""The least and the largest side of a pixel in mm; no microscope and no scanner goes beyond them."""


@dataclass(frozen=True)
class SlicePosition:
    """Where a slice lies in its volume.

    Attributes:
        volume: name of the volume.
        index: number of the slice in it.
        step_mm: from one slice to the next, or None where it is unknown.
    """

    volume: str
    index: int
    step_mm: float | None = None


@dataclass(frozen=True)
class Sample:
    """One annotated image.

    Attributes:
        image: (H, W, C) uint8, or float32 where the source holds more than 8 bits (its own units are kept).
        masks: (N, H, W) bool, one mask an instance; N may be 0. Given as such an array or as `InstanceMasks`.
        instances, crowds: `masks` and `crowd_masks` as `InstanceMasks`, which need no array; no parameters.
        class_ids: (N,) int32, 1-based position in the data set's class names; 0 is background and never stands here.
        patient_id: whom the image shows; a patient is never in two splits.
        source: where the image came from: a file name, with the slice appended for volumes.
        spacing_mm: (row, column) size of a pixel in millimetres, or None where it is unknown.
        label: class of the whole image, or None.
        place: where it lies in its volume, or None for an image on its own.
        crowd_masks: (K, H, W) bool, regions of instances that are not outlined one by one (COCO's `iscrowd`), which
            training and evaluation ignore; None where no image of the data set has any.
        crowd_ids: (K,) int32, the class of each.
    """

    image: np.ndarray
    masks: np.ndarray = MasksField("instances")  # noqa: RUF009 - a descriptor, which is no default
    class_ids: np.ndarray
    patient_id: str
    source: str
    spacing_mm: Spacing | None = None
    label: str | None = None
    place: SlicePosition | None = None
    crowd_masks: np.ndarray | None = MasksField("crowds", None)  # noqa: RUF009 - likewise
    crowd_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        height, width = self.image.shape[:2]
        if self.image.ndim != 3:
            raise ValueError(f"{self.source}: image has shape {self.image.shape}, expected (H, W, C)")
        instances: InstanceMasks = self.instances
        if instances.shape != (len(self.class_ids), height, width) or instances.dtype != bool:
            raise ValueError(
                f"{self.source}: masks are {instances.dtype} {instances.shape}, "
                f"expected bool {(len(self.class_ids), height, width)}"
            )
        if len(self.class_ids) and self.class_ids.min() < 1:
            raise ValueError(f"{self.source}: class id {self.class_ids.min()}, expected 1 or more")
