"""Histogram equalisation of an image before the network sees it."""

from __future__ import annotations

import numpy as np

CLIP_LIMIT = 0.01
"""Of CLAHE: the largest share of a tile's pixels in one grey level; scikit-image's default. Tiles are an eighth of the
image's sides."""


def equalize(image: np.ndarray, method: str) -> np.ndarray:
    """An image whose grey levels are spread evenly.

    Each channel is equalised by itself, so that of colours only the balance between them is lost; grey repeated over
    channels stays grey. A channel of a single value comes back as it is.

    Args:
        image: (H, W, C) uint8 or float.
        method: `none`; `histogram`, over the whole image; or `clahe`, contrast-limited and tile by tile (Zuiderveld
            1994, Graphics Gems IV), which keeps noise in flat regions down.

    Returns:
        (H, W, C) float32 from 0 to 255; with `none` the image itself.
    """
    if method == "none":
        return image
    # Worker processes of models that do without never import it.
    from skimage import exposure

    planes = []
    for channel in range(image.shape[2] if image.strides[2] else 1):
        plane = image[..., channel].astype(np.float64)
        low, high = plane.min(), plane.max()
        if low == high:
            planes.append(plane)
            continue
        plane = (plane - low) / (high - low)
        spread = exposure.equalize_hist if method == "histogram" else _clahe
        planes.append(255 * spread(plane))
    return np.broadcast_to(np.stack(planes, axis=-1).astype(np.float32), image.shape)


def _clahe(plane: np.ndarray) -> np.ndarray:
    from skimage import exposure

    return exposure.equalize_adapthist(plane, clip_limit=CLIP_LIMIT)
