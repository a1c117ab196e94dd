"""Several networks, or a network's views of an image and its mirror images, with the face of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mrcnn.detections import Detections
from mrcnn.errors import InputError
from mrcnn.inference.flips import flip_detections, flip_image, flipped_views
from mrcnn.inference.fusion import OVERLAP, fuse_detections

if TYPE_CHECKING:
    from mrcnn.config import ModelConfig
    from mrcnn.models import MaskRCNN


class Predictor(Protocol):
    """What finds instances: a `MaskRCNN` or an `Ensemble`."""

    config: ModelConfig

    def detect(
        self, images: Sequence[np.ndarray], *, batch_size: int = 4, on_batch: Callable[[int], None] | None = None
    ) -> list[Detections]:
        """See `MaskRCNN.detect`."""


class Ensemble:
    """Asks every network about every view and fuses the answers (`mrcnn.inference.fusion`): N is networks times views.

    Args:
        networks: at least one, of the same classes in the same order; they may differ in all else.
        flips: of `mrcnn.inference.flips.FLIPS`; each combination of them is a view.
        mirrored_ids: what each class id becomes in a left-right mirror image; see
        `mrcnn.inference.flips.flip_detections`.

    Raises:
        InputError: the networks know different classes.
    """

    def __init__(
        self, networks: Sequence[MaskRCNN], flips: Sequence[str] = (), mirrored_ids: Sequence[int] | None = None
    ) -> None:
        self.networks = tuple(networks)
        self.views = flipped_views(flips)
        self.config = self.networks[0].config
        self._mirrored_ids = None if mirrored_ids is None else np.asarray(mirrored_ids, np.int32)
        for network in self.networks[1:]:
            if network.config.class_names != self.config.class_names:
                raise InputError(
                    f"classes {', '.join(network.config.class_names)}: expected those of the ensemble's first network, "
                    f"{', '.join(self.config.class_names)}"
                )
        # What a network itself holds for two instances stays two.
        self._overlap = max(OVERLAP, *(network.config.nms_iou for network in self.networks))
        self._most = max(network.config.max_detections for network in self.networks)

    def detect(
        self, images: Sequence[np.ndarray], *, batch_size: int = 4, on_batch: Callable[[int], None] | None = None
    ) -> list[Detections]:
        """As `MaskRCNN.detect`; fused scores may lie below the networks' `score_threshold`."""
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            chunk = images[start : start + batch_size]
            answers: list[list[Detections]] = [[] for _ in chunk]
            for view in self.views:
                shown = [flip_image(np.asarray(image), view) for image in chunk]
                for network in self.networks:
                    for answer, seen in zip(answers, network.detect(shown, batch_size=batch_size), strict=True):
                        answer.append(flip_detections(seen, view, self._mirrored_ids))
            found += [fuse_detections(answer, overlap=self._overlap, most=self._most) for answer in answers]
            if on_batch is not None:
                on_batch(len(found))
        return found


def make_predictor(
    networks: Sequence[MaskRCNN], flips: Sequence[str] = (), mirrored_ids: Sequence[int] | None = None
) -> Predictor:
    """A single network that sees no mirror images as it is, anything else as an `Ensemble`."""
    return networks[0] if len(networks) == 1 and not flips else Ensemble(networks, flips, mirrored_ids)
