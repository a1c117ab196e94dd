"""Which lung of a side-less chest film mask is the patient's left and which the right: by geometry, or not at all.

On a frontal film the patient faces the viewer: the right lung is on the left of the picture, whether the beam came from
the back (PA) or the front (AP), since a film is hung as if the patient stood before the viewer. A mirrored film is one
that is not hung so; the picture alone does not betray it, so it has to be said.

What geometry checks before it decides: two lungs lie side by side, not one above the other (a picture turned by a
quarter), and lean together at the top, since the chest is narrower there (upside down they lean apart). A single lung
lies clearly on one side of the picture, and leans towards the other. What fails a check is not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

LEAST_LEAN = 0.03
"""Columns an upright lung moves towards the midline in each row upwards; in 322 films a pair's mean is 0.06 to 0.35."""
MINOR = 0.1
"""Pieces of less than this share of the largest are specks and left out."""
LEAST_SHARE = 0.005
"""Of the picture; a smaller mask is no lung."""
CENTRAL = 0.06
"""A single lung whose middle is nearer to the picture's than this share of its width has no side by its place."""

_DEPTHS = 40
_ROWS = 80  # of the coarse grid
_PART = 0.15  # share of what is left that each half has at least when a joined mask falls apart
_WAIST = 0.6  # of the lower of the two lungs' heights; the cut between them is lower than that


@dataclass(frozen=True)
class Sides:
    """What was decided of one mask.

    Attributes:
        left, right: (H, W) bool, the patient's; None where that lung is not there, or where there is a doubt.
        joined: the two were one piece in the mask and were parted.
        left_out: pieces too small to be a lung.
        doubt: why nothing was decided, or None.
    """

    left: np.ndarray | None = None
    right: np.ndarray | None = None
    joined: bool = False
    left_out: int = 0
    doubt: str | None = None


def sides_of(mask: np.ndarray, *, mirrored: bool = False) -> Sides:
    """The lungs of a frontal film's mask by side.

    Args:
        mask: (H, W) bool, both lungs or one, without side.
        mirrored: the film is hung the other way round, the patient's left on the left of the picture.
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
        # Of a pair the lean tells the place as well; `_doubt_of_one` has seen to it that of one lung it agrees.
        on_left = lean(piece) < 0 if len(pieces) == 1 else piece is min(pieces, key=_middle_column)
        lungs["left" if on_left == mirrored else "right"] = piece
    return Sides(lungs.get("left"), lungs.get("right"), joined, left_out)


def orientation_of(text: str) -> tuple[bool | None, str | None]:
    """Whether a film is mirrored by its DICOM PatientOrientation (0020,0020), and the doubt if it is not upright.

    The attribute names where the rows and where the columns of the picture lead: `L\\F`, to the patient's left and
    foot, is the upright frontal film. An empty one says nothing: (None, None).
    """
    parts = [part.strip().upper() for part in text.replace("/", "\\").split("\\")]
    if not text.strip():
        return None, None
    # Each may name up to three directions, the main one first.
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
    """Pieces of a mask that could be a lung, holes filled, largest first; and how many others there are."""
    labels, count = ndimage.label(ndimage.binary_fill_holes(mask))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    least = max(MINOR * sizes.max(initial=0), LEAST_SHARE * mask.size)
    large = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] >= least]
    return [labels == number + 1 for number in large], count - len(large)


def _part(piece: np.ndarray) -> list[np.ndarray] | None:
    """Two lungs that are one piece, parted; None where it is one lung.

    The piece is worn away from its border until it falls apart into two large pieces side by side; these grow back by a
    watershed of the distance to the border, which meets where the joint is narrowest. Where the joint is as thick as a
    lung, the column with the fewest pixels near the middle cuts a piece that is too wide for one lung.
    """
    rows, columns = np.flatnonzero(piece.any(1)), np.flatnonzero(piece.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = piece[part]
    distance = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    step = max(inside.shape[0] // _ROWS, 1)
    for depth in np.linspace(0, distance.max(), _DEPTHS, endpoint=False)[1:]:
        # First on a coarse grid, which is enough for the depths at which nothing falls apart.
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
    """(H, W) with 1 and 2 on the two largest pieces of a worn mask if these lie side by side, else None."""
    labels, count = ndimage.label(worn)
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
