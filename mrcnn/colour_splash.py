"""Colour splash: the instances in colour, everything around them in grey."""

from __future__ import annotations

import numpy as np

from mrcnn.data.pixels import LUMINANCE
from mrcnn.draw import colour_of, to_display
from mrcnn.instance_masks import InstanceMasks

_GREY = 12
"""Largest difference between the channels of a picture that counts as grey: compression tints grey films slightly."""


def colour_splash(image: np.ndarray, masks: np.ndarray | InstanceMasks, class_ids: np.ndarray) -> np.ndarray:
    """An image in grey whose instances keep their colour, as (H, W, 3) uint8.

    A grey image has no colour to keep: its instances take that of their class (`mrcnn.draw.PALETTE`), as bright as the
    image is; where instances overlap, that of the smallest.

    Args:
        image: (H, W) or (H, W, C) of any type; shown as `mrcnn.draw.to_display` does.
        masks: (N, H, W) bool.
        class_ids: (N,) 1-based.

    Raises:
        ValueError: the masks are not of the image's size.
    """
    shown, masks = to_display(image), InstanceMasks.of(masks)
    if masks.shape != (len(class_ids), *shown.shape[:2]):
        raise ValueError(f"masks are {masks.shape}, expected {(len(class_ids), *shown.shape[:2])}")
    luma = np.rint(shown @ LUMINANCE).clip(0, 255)
    splash = np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)
    if np.ptp(shown, axis=2).max() > _GREY:
        inside = masks.union()
        splash[inside] = shown[inside]
        return splash
    for index in np.argsort(-masks.areas, kind="stable"):
        colour = np.array(colour_of(class_ids[index]), np.float32)
        crop = masks.crop(index)
        bright = luma[crop.part][crop.pixels][:, None]
        splash[crop.part][crop.pixels] = np.rint(bright * (colour / colour.max())).astype(np.uint8)
    return splash
