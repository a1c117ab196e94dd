"""Plan the network input and the masks: which canvas the images need, and what Dice its grids allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from experiments.training import budget
from mrcnn.config import TILE_SIDES, height_and_width
from mrcnn.data import Dataset
from mrcnn.data.dataset import Record
from mrcnn.data.transforms.cropping import tile_count
from mrcnn.data.transforms.encoding import square
from mrcnn.geometry.masks import paste_crop
from mrcnn.inference.tiles import OVERLAP

STEP = 32
"""Multiple of the canvas, the stride of the last stage of a backbone."""
SMALLEST_PIXELS = 128**2
LONGEST = 1536
"""Longest planned side in pixels."""
SCALES = (0.125, 0.25, 0.354, 0.5, 0.707, 1.0)
"""Scales of the images at which the Dice ceiling is computed, from the coarsest."""
LARGEST_SCALE = 2.0
"""Enlargement beyond which the finer grid over small instances shows nothing new."""
SCALE_LOSS, OUTLINE_LOSS, MASK_LOSS = 0.01, 0.002, 0.005
"""Dice that a smaller scale may lose against the images' own size, the same where outlines decide, and that the smaller
mask may lose against the larger one. Measured in docs/reference/accuracy.md, "Choices behind the defaults"."""
SAME_INSTANCES = 0.9
"""Share of the images with the same instances from which outlines decide."""
SMALLEST_SIDE, USUAL_SIDE = 16, 44
"""Sides in network pixels that the smallest (5 %) and the median instance should have: 4 and 11 cells of P2."""
TILE_INPUTS = (256, 512)
"""Smallest and largest planned input for tiles."""
SHRINKAGE = 2.0
"""Factor by which images must be larger than the canvas and than a tile, before tiles are planned."""
CROWD = 10
"""Median of instances an image from which images are crowded, and taken to have no upper side, as in microscopy."""
_IMAGES, _INSTANCES = 40, 80
Decide = Callable[[str, object, str], None]
"""Record a decision: its name, value and reason."""


def dice_ceiling(masks: Sequence[np.ndarray], scale: float, cells: int) -> float:
    """Compute the mean Dice of masks that go through the network's grids and back; 1 without masks.

    Each mask is shrunk by the scale, resampled to the cells of the mask head, and pasted back into its box.

    Args:
        masks: masks (h, w) bool, cropped to their boxes, in pixels of the original images.
        scale: network pixels per image pixel, at most 1.
        cells: side of a predicted mask.

    Example:
        >>> dice_ceiling([np.ones((40, 60), bool)], scale=0.5, cells=28)
        1.0
    """
    values = []
    for mask in masks:
        height, width = mask.shape
        size = max(1, round(width * scale)), max(1, round(height * scale))
        shrunk = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) >= 128
        box = np.array([0, 0, width, height], np.float32)
        pasted = paste_crop(square(shrunk, cells) / 255, box, height, width).pixels
        values.append(2 * (pasted & mask).sum() / max(pasted.sum() + mask.sum(), 1))
    return float(np.mean(values)) if values else 1.0


def sampled_masks(training: Dataset) -> list[np.ndarray]:
    """Return masks cropped to their boxes of at most `_INSTANCES` instances, spread over `_IMAGES` images."""
    filled = [index for index, record in enumerate(training.records) if len(record.class_ids)]
    chosen = np.unique(np.linspace(0, len(filled) - 1, min(_IMAGES, len(filled)), dtype=int)) if filled else []
    each = -(-_INSTANCES // max(len(chosen), 1))
    masks = []
    for at in chosen:
        instances = training.instances(filled[at])
        some = np.unique(np.linspace(0, len(instances) - 1, min(each, len(instances)), dtype=int))
        masks += [pixels for pixels in (instances.crop(index).tight().pixels for index in some) if pixels.any()]
    return masks[:_INSTANCES]


def outlines_decide(class_ids: Sequence[np.ndarray]) -> bool:
    """Return whether nearly all images show the same instances, such as two lungs: finding them is easy then.

    Args:
        class_ids: (N,) class ids of the instances of each image.

    Example:
        >>> outlines_decide([np.array([1, 2]), np.array([2, 1])]), outlines_decide([np.array([1]), np.array([1, 1])])
        (True, False)
    """
    shown = Counter(tuple(sorted(ids.tolist())) for ids in class_ids)
    (most, count), *_ = shown.most_common(1) or [((), 0)]
    return bool(most) and count >= SAME_INSTANCES * len(class_ids)


def needed_scale(ceilings: Mapping[float, float], sides: np.ndarray, loss: float = SCALE_LOSS) -> tuple[float, str]:
    """Return the scale of the images that the instances need, and the reason.

    Args:
        ceilings: Dice ceiling of each scale.
        sides: (N,) square roots of the areas of the training instances in original pixels.
        loss: Dice that the scale may lose.

    Example:
        >>> needed_scale({0.5: 0.99, 1.0: 0.991}, np.array([200.0, 300.0]))
        (0.5, 'at 0.5 times their size masks lose less than 0.01 of Dice')
    """
    best = max(ceilings.values())
    scale = min(scale for scale, value in ceilings.items() if value > best - loss)
    reason = f"at {scale:g} times their size masks lose less than {loss} of Dice"
    if len(sides):
        for quantile, wanted in ((0.05, SMALLEST_SIDE), (0.5, USUAL_SIDE)):
            side = max(float(np.quantile(sides, quantile)), 1.0)
            if (larger := min(wanted / side, LARGEST_SCALE)) > scale:
                scale = larger
                reason = f"{quantile:.0%} of the instances are below {side:.0f} px, for which {scale:.2g} times is due"
    return scale, reason


def choose_canvas(sizes: np.ndarray, scale: float, max_pixels: float, *, square_only: bool = False) -> tuple[int, int]:
    """Choose the height and width of the network input for images that should be scaled by `scale`.

    Of all canvases with at most `max_pixels` pixels it is the one that shrinks the images least below their scale, and
    of those that are within 2 % the smallest.

    Args:
        sizes: (N, 2) heights and widths of the images.
        scale: factor from the original size to the wanted one.
        max_pixels: largest area of the canvas.
        square_only: consider squares alone.

    Example:
        >>> choose_canvas(np.array([[360, 560]] * 9), scale=1.0, max_pixels=512 * 512)
        (384, 576)
        >>> choose_canvas(np.array([[360, 560]] * 9), scale=1.0, max_pixels=300 * 300)
        (224, 352)
    """
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    weights = counts / counts.sum()
    sides = np.arange(2 * STEP, LONGEST + 1, STEP)
    heights, widths = (each.ravel() for each in np.meshgrid(sides, sides, indexing="ij"))
    allowed = heights * widths <= max(max_pixels, SMALLEST_PIXELS)
    if square_only:
        allowed &= heights == widths
    heights, widths = heights[allowed], widths[allowed]
    fits = np.minimum(heights[:, None] / unique[None, :, 0], widths[:, None] / unique[None, :, 1]) / scale
    shrinkage = np.minimum(np.log(fits), 0) @ weights
    near = np.flatnonzero(shrinkage >= shrinkage.max() - 0.02)
    # Of equally small ones the least elongated.
    best = near[np.lexsort((np.abs(heights[near] - widths[near]), heights[near] * widths[near]))[0]]
    return int(heights[best]), int(widths[best])


def choose_tile(
    sizes: np.ndarray, longest: np.ndarray, scale: float, canvas: tuple[int, int], side: int | None = None
) -> tuple[int, int] | None:
    """Choose tiles, in pixels of the image and of the network, if whole images on a canvas lose their instances.

    They do if the median image is at least twice as large as the canvas, which shows it at less than half of the wanted
    scale, and more than twice as large as a tile. The input is so large that 95 % of the instances fit into the overlap
    of neighboring tiles: then one of these has them whole.

    Args:
        sizes: (N, 2) heights and widths of the images.
        longest: (M,) longer sides of the instances' boxes in original pixels.
        scale: factor from the original size to the wanted one.
        canvas: height and width of the network input for whole images.
        side: side of the network input, if it is given.

    Returns:
        Side of a tile in pixels of the image, and side of the network input; None for whole images.

    Example:
        >>> choose_tile(np.array([[2000, 2000]]), np.array([12.0] * 9), 2.0, (256, 256))
        (128, 256)
        >>> choose_tile(np.array([[256, 256]]), np.array([12.0] * 9), 2.0, (256, 256)) is None
        True
    """
    if not len(longest):
        return None
    large = float(np.quantile(longest, 0.95)) * scale
    if side is None:
        side = int(np.clip(STEP * np.ceil(large / OVERLAP / STEP), *TILE_INPUTS))
    tile = int(np.clip(side / scale, *TILE_SIDES))
    shown = float(np.median(np.minimum(canvas[0] / sizes[:, 0], canvas[1] / sizes[:, 1])))
    image = float(np.median(np.sqrt(sizes.prod(axis=1))))
    if 2 * large > side or SHRINKAGE * shown > min(scale, 1) or image <= SHRINKAGE * tile:
        return None
    return tile, side


def canvas_reason(sizes: np.ndarray, why: str, bounded: bool) -> str:
    """Describe the images of a canvas in a line: the most frequent size with its share, and what decided the scale."""
    unique, counts = np.unique(sizes, axis=0, return_counts=True)
    height, width = unique[counts.argmax()]
    share = counts.max() / counts.sum()
    ratios = np.quantile(sizes[:, 1] / sizes[:, 0], (0.05, 0.95))
    images = (
        f"{share:.0%} of the images are {height}×{width}"
        if share >= 0.5
        else f"width / height of the images is {ratios[0]:.2f} to {ratios[1]:.2f}"
    )
    return f"{images}; {why}" + ("; bounded by the budget" if bounded else "") + f"; multiples of {STEP}"


def scale_for(training: Dataset, masks: list[np.ndarray]) -> tuple[float, str]:
    """Return the scale that the instances need, and the reason; `masks` are instances of a sample."""
    sides = np.sqrt(np.concatenate([record.areas for record in training.records]))
    loss = OUTLINE_LOSS if outlines_decide([record.class_ids for record in training.records]) else SCALE_LOSS
    return needed_scale({each: dice_ceiling(masks, each, 56) for each in SCALES}, sides, loss)


def plan_canvas(
    training: Dataset, tile: int | None, needed: tuple[float, str], effort: budget.Effort, bound: float | None,
    unit: float, square: bool,
) -> tuple[int | tuple[int, int], str]:  # fmt: skip
    """Choose the input size and its reason: as large as the instances need and the budget of `bound` seconds allows.

    `needed` is that of `scale_for`, `unit` the estimated time of a training image of 256×256 pixels in seconds.
    """
    sizes = np.array([[record.height, record.width] for record in training.records])
    draws = len(training) if tile is None else sum(tile_count(height, width, tile) for height, width in sizes.tolist())
    sizes = sizes if tile is None else np.minimum(sizes, tile)
    scale, why = needed
    pixels = float(LONGEST**2)
    if bound is not None:
        # More draws than twice the least of the preset do not cost resolution; crowded images need a quarter of these,
        # since each teaches many instances.
        enough = effort.least // 2 if is_crowded(training) else 2 * effort.least
        pixels = min(pixels, budget.UNIT * budget.fitting_seconds(bound) / min(effort.images(draws), enough) / unit)
    height, width = choose_canvas(sizes, scale, pixels, square_only=square)
    free = choose_canvas(sizes, scale, LONGEST**2, square_only=square)
    return height if height == width else (height, width), canvas_reason(sizes, why, (height, width) != free)


def plan_tile(
    training: Dataset, needed: tuple[float, str], canvas: int | tuple[int, int], given: Any, decide: Decide
) -> tuple[int | None, int]:
    """Choose tiles where a canvas for whole images loses their instances; return the tile, and the input for it.

    Only crowded images get tiles: elsewhere the surroundings of an instance, which a tile cuts off, may say what it is.
    """
    sizes = np.array([[record.height, record.width] for record in training.records])
    boxes = np.concatenate([record.boxes for record in training.records])
    side = None if given == "auto" else min(height_and_width(given))
    found = choose_tile(sizes, (boxes[:, 2:] - boxes[:, :2]).max(axis=1), needed[0], height_and_width(canvas), side)
    if found is None:
        return None, 0
    tile, side = found
    reason = "{}×{} for whole images is less than half of what they need: {}".format(
        *height_and_width(canvas), needed[1]
    )
    if not is_crowded(training):
        decide("tile", "none", f"{reason}; if their surroundings do not matter, --tile {tile} shows them so")
        return None, 0
    decide("tile", f"{tile}×{tile} px of the images", reason)
    return tile, side


def plan_mask_pool_size(
    training: Dataset, masks: list[np.ndarray], canvas: tuple[int, int], tile: int | None, decide: Decide
) -> int:
    """Choose the side of the region that the mask head pools, by the Dice that its masks allow on the canvas."""
    scale = min(float(np.median([_scale(record, canvas, tile) for record in training.records])), 1.0)
    small, large = (dice_ceiling(masks, scale, cells) for cells in (28, 56))
    chosen = 28 if large > small + MASK_LOSS else 14
    decide("mask size", f"{2 * chosen}×{2 * chosen}",
           f"masks of 28×28 allow a Dice of {small:.3f} at most, of 56×56 {large:.3f}")  # fmt: skip
    return chosen


def network_boxes(dataset: Dataset, canvas: tuple[int, int], tile: int | None = None) -> np.ndarray:
    """Return all boxes (N, 4) of a dataset in pixels of the network input of (height, width) for images or tiles."""
    scaled = [record.boxes * _scale(record, canvas, tile) for record in dataset.records]
    return np.concatenate(scaled or [np.zeros((0, 4), np.float32)])


def _scale(record: Record, canvas: tuple[int, int], tile: int | None) -> float:
    height, width = (min(side, tile or side) for side in (record.height, record.width))
    return min(canvas[0] / height, canvas[1] / width)


def is_crowded(training: Dataset) -> bool:
    """Return whether the median image has `CROWD` instances or more."""
    return float(np.median([len(record.class_ids) for record in training.records])) >= CROWD
