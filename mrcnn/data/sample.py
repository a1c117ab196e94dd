"""Define `Sample`, an annotated image: every reader produces it, every transform takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks, MasksField, WithMasks

Spacing = tuple[float, float]
SPACING_MM = (1e-6, 1e4)
"""Smallest and largest valid side of a pixel in mm; covers microscopes and scanners."""


@dataclass(frozen=True)
class SlicePosition:
    """Locate a slice in its volume.

    Attributes:
        volume: name of the volume.
        index: number of the slice in it.
        step_mm: distance between neighboring slices, or None if unknown.
    """

    volume: str
    index: int
    step_mm: float | None = None


@dataclass(frozen=True)
class Sample(WithMasks):
    """Hold one annotated image; an image without instances is valid.

    Attributes:
        image: (H, W, C) uint8, or float32 if the file has more than 8 bits; float values keep the units of the file.
        masks: (N, H, W) bool, one mask per instance; N may be 0. The argument may be an array or `InstanceMasks`.
        class_ids: (N,) int32, 1-based index into the class names of the data set; 0 is background and not allowed.
        patient_id: patient shown in the image; splits never share a patient.
        source: file name, with `:slice` appended for volumes.
        spacing_mm: (row, column) size of a pixel in millimeters, or None if unknown.
        label: image-level class, or None.
        place: position in the volume, or None if the image is not a slice.
        crowd_masks: (K, H, W) bool, regions of instances without individual outlines (COCO's `iscrowd`), ignored in
            training and evaluation; None if no image of the data set has any.
        crowd_ids: (K,) int32, class of each crowd region.
        context_slices: n, if `image` has the channels of 2n + 1 slices; see `read_with_context`. The masks are those of
            the present slice.

    Raises:
        ValueError: image, masks and class ids do not have the shapes and types above.
    """

    image: np.ndarray
    masks: MasksField[np.ndarray]
    class_ids: np.ndarray
    patient_id: str
    source: str
    spacing_mm: Spacing | None = None
    label: str | None = None
    place: SlicePosition | None = None
    crowd_masks: MasksField[np.ndarray | None] = MasksField("crowds", None)  # noqa: RUF009 - a descriptor
    crowd_ids: np.ndarray | None = None
    context_slices: int = 0

    @property
    def crowds(self) -> InstanceMasks | None:
        """`crowd_masks` as `InstanceMasks`, without an array."""
        return self.__dict__["crowds"]

    def present(self) -> Sample:
        """Return the sample with the channels of the present slice alone."""
        if not self.context_slices:
            return self
        image = present_slice(self.image, self.context_slices)
        # Not as arrays: these would be decoded.
        return replace(self, image=image, masks=self.instances, crowd_masks=self.crowds, context_slices=0)

    def __post_init__(self) -> None:
        height, width = self.image.shape[:2]
        if self.image.ndim != 3:
            raise ValueError(f"{self.source}: image has shape {self.image.shape}, expected (H, W, C)")
        instances = self.instances
        if instances.shape != (len(self.class_ids), height, width) or instances.dtype != bool:
            raise ValueError(
                f"{self.source}: masks are {instances.dtype} {instances.shape}, "
                f"expected bool {(len(self.class_ids), height, width)}"
            )
        if len(self.class_ids) and self.class_ids.min() < 1:
            raise ValueError(f"{self.source}: class id {self.class_ids.min()}, expected 1 or more")


def read_with_context(read: Callable[[int], np.ndarray], index: int, count: int, context_slices: int) -> np.ndarray:
    """Read a slice with its neighbors as channels.

    Args:
        read: number of a slice → its pixels (H, W, C). Gray slices among color slices get their channels.
        index: number of the present slice.
        count: number of slices. The first and the last slice are repeated beyond the ends.
        context_slices: n, neighbors on each side.

    Returns:
        (H, W, (2n + 1) · C): the channels of the n previous slices, of the present one and of the n next ones.

    Raises:
        InputError: a neighbor has another size.
    """
    numbers = [min(max(index + offset, 0), count - 1) for offset in range(-context_slices, context_slices + 1)]
    opened = {number: read(number) for number in set(numbers)}
    height, width, _ = opened[index].shape
    for number, image in opened.items():
        if image.shape[:2] != (height, width):
            raise InputError(
                f"neighboring slice {number} is {image.shape[1]}×{image.shape[0]} pixels; expected {width}×{height}, "
                "as the slice itself"
            )
    channels = max(image.shape[2] for image in opened.values())
    slices = [opened[number] for number in numbers]
    return np.concatenate(
        [image if image.shape[2] > 1 else np.broadcast_to(image, (height, width, channels)) for image in slices], axis=2
    )


def present_slice(image: np.ndarray, context_slices: int) -> np.ndarray:
    """Return the channels (H, W, C) of the present slice of an image of `read_with_context`; gray has no others."""
    if not context_slices or image.ndim == 2 or image.shape[2] == 1:
        return image
    channels = image.shape[2] // (2 * context_slices + 1)
    return image[..., context_slices * channels : (context_slices + 1) * channels]
