"""Assign left and right to the lungs of a chest mask by geometry, if that is unambiguous.

On a frontal radiograph the patient faces the viewer: the right lung is on the left of the image, for a PA and an AP
beam. A mirrored image is displayed otherwise; the image itself does not show this, so it must be stated.

Checks: two lungs are side by side, not one above the other (an image rotated by 90°), and lean together at the top,
where the chest is narrower (upside down they lean apart). A single lung is clearly on one side of the image and leans
toward the other. If a check fails, no side is assigned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from experiments.findings.measures import distance_to_background, label_components

LEAST_LEAN = 0.03
"""Columns toward the midline per row upward in an upright lung; the mean of a pair is 0.06 to 0.35 in 322 images."""
MINOR = 0.1
"""Components below this fraction of the largest are ignored."""
LEAST_SHARE = 0.005
"""Smallest fraction of the image for a lung."""
CENTRAL = 0.06
"""Smallest distance of the center of a single lung from that of the image, as a fraction of the width."""

_DEPTHS = 40
_ROWS = 80  # of the coarse grid
_PART = 0.15  # smallest fraction of each half when an eroded mask separates
_WAIST = 0.6  # largest height of the cut, as a fraction of the lower lung


@dataclass(frozen=True)
class Sides:
    """The sides of one mask.

    Attributes:
        left, right: (H, W) bool, of the patient; None without that lung or with a doubt.
        joined: both lungs were one component, which was separated.
        left_out: number of components too small for a lung.
        doubt: why no side was assigned, or None.
    """

    left: np.ndarray | None = None
    right: np.ndarray | None = None
    joined: bool = False
    left_out: int = 0
    doubt: str | None = None


def sides_of(mask: np.ndarray, *, mirrored: bool = False) -> Sides:
    """Assign the lungs of a frontal mask to sides.

    Args:
        mask: (H, W) bool, both lungs or one, without side.
        mirrored: the left of the patient is on the left of the image.
    """
    pieces, left_out = _pieces(mask)
    joined = False
    if len(pieces) == 1 and (halves := _part(pieces[0])) is not None:
        pieces, joined = halves, True
    if not pieces:
        return Sides(left_out=left_out, doubt="the mask holds no lung")
    if len(pieces) > 2:
        return Sides(left_out=left_out, doubt=f"the mask has {len(pieces)} large pieces")
    doubt = _doubt_of_pair(*pieces) if len(pieces) == 2 else _doubt_of_one(pieces[0])
    if doubt:
        return Sides(joined=joined, left_out=left_out, doubt=doubt)
    lungs: dict[str, np.ndarray] = {}
    for piece in pieces:
        # For a single lung `_doubt_of_one` has checked that lean and position agree.
        on_left = lean(piece) < 0 if len(pieces) == 1 else piece is min(pieces, key=_middle_column)
        lungs["left" if on_left == mirrored else "right"] = piece
    return Sides(lungs.get("left"), lungs.get("right"), joined, left_out)


def orientation_of(text: str) -> tuple[bool | None, str | None]:
    r"""Read from DICOM PatientOrientation (0020,0020) whether an image is mirrored, or why it is not upright.

    The attribute has the directions of the rows and of the columns: `L\F`, to the left and the foot of the patient, is
    the upright frontal image. (None, None) if it is empty.
    """
    parts = [part.strip().upper() for part in text.replace("/", "\\").split("\\")]
    if not text.strip():
        return None, None
    # Each has up to three directions, the main one first.
    heads = "".join(part[:1] for part in parts)
    if heads in ("LF", "RF"):
        return heads == "RF", None
    return None, f"patient orientation {text!r} is not that of an upright frontal film (L\\F, or R\\F mirrored)"


def lean(piece: np.ndarray) -> float:
    """Columns that the middle of a piece moves to the right in each row downwards, by least squares."""
    rows, columns = np.nonzero(piece)
    rows, columns = rows - rows.mean(), columns - columns.mean()
    return float((rows * columns).sum() / max((rows**2).sum(), 1))


def _pieces(mask: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Return the components of a mask that can be a lung, holes filled, largest first; and the number of others."""
    labels, count = label_components(np.asarray(ndimage.binary_fill_holes(mask)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    least = max(MINOR * sizes.max(initial=0), LEAST_SHARE * mask.size)
    large = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] >= least]
    return [labels == number + 1 for number in large], count - len(large)


def _part(piece: np.ndarray) -> list[np.ndarray] | None:
    """Separate two lungs that are one component; None if it is one lung.

    The component is eroded until it separates into two large components side by side; a watershed of the distance to
    the border expands them again and meets at the narrowest place. If the joint is as thick as a lung, a component that
    is too wide for one lung is cut at the column with the fewest pixels near the middle.
    """
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = piece[part]
    distance = distance_to_background(np.pad(inside, 1))[1:-1, 1:-1]
    step = max(inside.shape[0] // _ROWS, 1)
    for depth in np.linspace(0, distance.max(), _DEPTHS, endpoint=False)[1:]:
        # First on a coarse grid, which suffices for depths without separation.
        if _seeds(distance[::step, ::step] > depth) is None or (seeds := _seeds(distance > depth)) is None:
            continue
        grown = watershed(-distance, seeds, mask=inside)
        return [_back(grown == number, piece, part) for number in (1, 2)]
    heights = ndimage.uniform_filter1d(inside.sum(0).astype(float), max(inside.shape[1] // 40, 1))
    third = inside.shape[1] // 3
    cut = third + int(np.argmin(heights[third : 2 * third])) if third else 0
    if inside.shape[1] > inside.shape[0] and heights[cut] < _WAIST * min(heights[:cut].max(), heights[cut:].max()):
        left = np.arange(inside.shape[1]) < cut
        return [_back(inside & half, piece, part) for half in (left, ~left)]
    return None


def _seeds(worn: np.ndarray) -> np.ndarray | None:
    """Return (H, W) with 1 and 2 on the two largest components of an eroded mask if they are side by side, or None."""
    labels, count = label_components(worn)
    sizes = np.bincount(labels.ravel())[1:]
    if count < 2 or np.sort(sizes)[-2] < _PART * sizes.sum():
        return None
    first, second = np.argsort(-sizes, kind="stable")[:2] + 1
    (y1, x1), (y2, x2) = ndimage.center_of_mass(np.ones_like(labels), labels, (first, second))
    if abs(x1 - x2) <= max(abs(y1 - y2), worn.shape[1] / 4):
        return None
    return np.where(labels == first, 1, np.where(labels == second, 2, 0))


def _back(part: np.ndarray, piece: np.ndarray, place: tuple[slice, slice]) -> np.ndarray:
    whole = np.zeros_like(piece)
    whole[place] = part
    return whole


def _middle_column(piece: np.ndarray) -> float:
    return float(np.nonzero(piece)[1].mean())


def _doubt_of_pair(first: np.ndarray, second: np.ndarray) -> str | None:
    left, right = sorted((first, second), key=_middle_column)
    across = _middle_column(right) - _middle_column(left)
    down = abs(float(np.nonzero(left)[0].mean() - np.nonzero(right)[0].mean()))
    if across <= down:
        return "the two pieces lie one above the other: a picture turned by a quarter, or one lung in two pieces"
    together = (lean(right) - lean(left)) / 2
    if together < -LEAST_LEAN:
        return "the lungs lean together at the bottom: a picture turned upside down"
    if together < LEAST_LEAN:
        return "the lungs lean neither together nor apart: top and bottom cannot be told"
    return None


def _doubt_of_one(piece: np.ndarray) -> str | None:
    height, width = np.ptp(np.nonzero(piece), axis=1) + 1
    if width > height:
        return "a single piece wider than high: two lungs that cannot be parted, or a picture turned by a quarter"
    off = _middle_column(piece) / piece.shape[1] - 0.5
    if abs(off) < CENTRAL:
        return "a single lung too near to the middle of the picture to have a side"
    if abs(lean(piece)) < LEAST_LEAN:
        return "a single lung that leans to neither side: its place cannot be checked"
    if (off < 0) != (lean(piece) < 0):
        return "a single lung that leans away from the middle of the picture: its side cannot be told"
    return None
