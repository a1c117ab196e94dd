"""Prepare images like matterport's Mask R-CNN: RGB, centered in a black square, minus a mean pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn.data.transforms.normalization import equalize

MEAN_PIXEL = np.array([123.7, 116.8, 103.9], np.float32)  # red, green, blue
INCLUSIVE = np.array([0, 0, 1, 1], np.float32)


@dataclass(frozen=True)
class CenteredLetterbox:
    """Map coordinates between an image and the network input with the scaled image at its center.

    Boxes map between centers of the first and last pixels, so that an image of w pixels has the width w − 1.

    Attributes:
        scale: network pixels per image pixel, before rounding to whole pixels.
        height, width: size of the original image.
        top, left, inner_height, inner_width: position and size of the image in the square.
    """

    scale: float
    height: int
    width: int
    top: int
    left: int
    inner_height: int
    inner_width: int

    @property
    def window(self) -> np.ndarray:
        """Box of the image in the square: (4,) float32 (x1, y1, x2, y2), x2 and y2 exclusive."""
        return np.array([self.left, self.top, self.left + self.inner_width, self.top + self.inner_height], np.float32)

    @property
    def _ratios(self) -> np.ndarray:
        x = (self.inner_width - 1) / max(self.width - 1, 1)
        y = (self.inner_height - 1) / max(self.height - 1, 1)
        return np.array([x, y, x, y], np.float32)

    @property
    def _origin(self) -> np.ndarray:
        return np.array([self.left, self.top] * 2, np.float32)

    def to_network(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from image pixels to network pixels, float32."""
        return (np.asarray(boxes, np.float32) - INCLUSIVE) * self._ratios + self._origin + INCLUSIVE

    def to_original(self, boxes: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from network pixels to image pixels, float32."""
        ratios = np.maximum(self._ratios, 1e-6)
        return (np.asarray(boxes, np.float32) - INCLUSIVE - self._origin) / ratios + INCLUSIVE


def prepare_centered(image: np.ndarray, size: int, equalization: str = "none") -> tuple[np.ndarray, CenteredLetterbox]:
    """Convert RGB (H, W, 3), 0 … 255, to the input (size, size, 3) float32, and return its letterbox."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner_height, inner_width = (max(1, round(side * scale)) for side in (height, width))
    resized = image
    if (inner_height, inner_width) != (height, width):
        resized = _resize(image, inner_height, inner_width)
        # uint8 values are truncated, not rounded.
        resized = np.floor(resized) if image.dtype == np.uint8 else resized
    top, left = (size - inner_height) // 2, (size - inner_width) // 2
    square = np.zeros((size, size, 3), np.float32)
    square[top : top + inner_height, left : left + inner_width] = equalize(resized, equalization)
    return square - MEAN_PIXEL, CenteredLetterbox(scale, height, width, top, left, inner_height, inner_width)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize with bilinear interpolation at pixel centers, black outside, without antialiasing.

    With SciPy, like matterport, because the last bit decides how uint8 values are truncated.
    """
    from scipy import ndimage  # slows down the start of worker processes

    rows, columns, channels = image.shape
    zoom = (1 / (rows / height), 1 / (columns / width))
    planes = [
        np.asarray(ndimage.zoom(image[..., i].astype(np.float64), zoom, order=1, mode="grid-constant", grid_mode=True))
        for i in range(channels)
    ]
    return np.stack(planes, axis=-1)
