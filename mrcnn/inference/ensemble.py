"""Ensembles of several models and test-time augmentation, with the interface of one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.inference.fusion import IOU_THRESHOLD, fuse_detections
from mrcnn.inference.tiles import detect_in_tiles

if TYPE_CHECKING:
    from mrcnn.config import ModelConfig
    from mrcnn.models import MaskRCNN


FLIPS = ("horizontal", "vertical")
View = tuple[str, ...]
"""Flips of a view; empty for the image itself."""


def flipped_views(flips: Sequence[str]) -> list[View]:
    """Return every combination of `flips`, the image itself first.

    Raises:
        ValueError: a flip is not in `FLIPS`, or is repeated.
    """
    if not set(flips) <= set(FLIPS) or len(set(flips)) != len(flips):
        raise ValueError(f"flips={list(flips)}: expected each once of {', '.join(FLIPS)}")
    return [view for count in range(len(flips) + 1) for view in combinations(flips, count)]


def flip_image(image: np.ndarray, view: View) -> np.ndarray:
    """Flip an image (H, W) or (H, W, C)."""
    if "horizontal" in view:
        image = image[:, ::-1]
    if "vertical" in view:
        image = image[::-1]
    return np.ascontiguousarray(image)


def flip_detections(found: Detections, view: View, mirrored_ids: np.ndarray | None = None) -> Detections:
    """Flip detections from a view to the image or from the image to a view.

    `mirrored_ids` (K + 1,) has the class id after a horizontal flip for each class id; None if no class has a side. A
    vertical flip does not change classes, as in `mrcnn.data.Augmentation`.
    """
    height, width = found.instances.shape[1:]
    if "horizontal" in view:
        boxes = found.boxes.copy()
        boxes[:, 0], boxes[:, 2] = width - found.boxes[:, 2], width - found.boxes[:, 0]
        class_ids = found.class_ids if mirrored_ids is None else np.asarray(mirrored_ids, np.int32)[found.class_ids]
        found = replace(found, boxes=boxes, class_ids=class_ids, masks=found.instances.flip(horizontal=True))
    if "vertical" in view:
        boxes = found.boxes.copy()
        boxes[:, 1], boxes[:, 3] = height - found.boxes[:, 3], height - found.boxes[:, 1]
        found = replace(found, boxes=boxes, masks=found.instances.flip(vertical=True))
    return found


class Detector(Protocol):
    """Interface of every model that finds instances."""

    config: ModelConfig

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances in images; see `MaskRCNN.detect`."""
        ...


class Predictor(Detector, Protocol):
    """Interface of `MaskRCNN` and `Ensemble`."""

    def count_params(self) -> int:
        """Count the weights of all networks."""
        ...


class Ensemble:
    """Detect with every network in every view and fuse the detections (`mrcnn.inference.fusion`).

    Args:
        networks: at least one model; all have the same classes in the same order.
        flips: a selection of `FLIPS`; each combination is a view.
        mirrored_ids: class ids after a horizontal flip; see `flip_detections`.

    Raises:
        InputError: the classes of the networks, or the neighboring slices that they see, differ.
    """

    def __init__(
        self, networks: Sequence[MaskRCNN], flips: Sequence[str] = (), mirrored_ids: Sequence[int] | None = None
    ) -> None:
        self.networks = tuple(networks)
        self.views = flipped_views(flips)
        self.config = self.networks[0].config
        self._mirrored_ids = None if mirrored_ids is None else np.asarray(mirrored_ids, np.int32)
        for network in self.networks[1:]:
            if network.config.context_slices != self.config.context_slices:
                raise InputError(
                    f"context_slices={network.config.context_slices}: expected that of the ensemble's first network, "
                    f"{self.config.context_slices}"
                )
            if network.config.class_names != self.config.class_names:
                raise InputError(
                    f"classes {', '.join(network.config.class_names)}: expected those of the ensemble's first network, "
                    f"{', '.join(self.config.class_names)}"
                )
        # Two detections that a network did not suppress remain two.
        self._iou_threshold = max(IOU_THRESHOLD, *(network.config.nms_iou for network in self.networks))
        self._max_detections = max(network.config.max_detections for network in self.networks)

    def detect(self, images: Sequence[np.ndarray], *, batch_size: int = 4) -> list[Detections]:
        """Find the instances as `MaskRCNN.detect`; fused scores may be below the networks' `score_threshold`.

        With `config.tile` the detections of all networks and views are fused in each tile, and then merged: the limit
        of detections is one of a tile.
        """
        find = partial(self._detect_whole, batch_size=batch_size)
        return detect_in_tiles(find, images, self.config.tile, batch_size=batch_size)

    def _detect_whole(self, images: Sequence[np.ndarray], batch_size: int) -> list[Detections]:
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            members: list[list[Detections]] = [[] for _ in chunk]
            for view in self.views:
                shown = [flip_image(np.asarray(image), view) for image in chunk]
                for network in self.networks:
                    for member, each in zip(members, network.detect(shown, batch_size=batch_size), strict=True):
                        member.append(flip_detections(each, view, self._mirrored_ids))
            found += [
                fuse_detections(each, iou_threshold=self._iou_threshold, max_detections=self._max_detections)
                for each in members
            ]
        return found

    def count_params(self) -> int:
        """Count the weights of all networks."""
        return sum(network.count_params() for network in self.networks)


def make_predictor(
    networks: Sequence[MaskRCNN], flips: Sequence[str] = (), mirrored_ids: Sequence[int] | None = None
) -> Predictor:
    """Return a single network without flips unchanged, otherwise an `Ensemble`."""
    return networks[0] if len(networks) == 1 and not flips else Ensemble(networks, flips, mirrored_ids)
