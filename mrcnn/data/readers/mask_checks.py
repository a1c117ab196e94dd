"""Check the masks of a data set: reject invalid ones, repair or report suspicious ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.ndimage import binary_fill_holes, label

from mrcnn.data.io.label_images import (
    VOID,
    LabelImage,
    has_void_border,
    is_blended,
    nonzero_values,
    ringed_values,
    solid_values,
    threshold_blended,
)
from mrcnn.data.io.pictures import UPRIGHT
from mrcnn.data.problems import name_warnings
from mrcnn.data.reader_options import MasksOptions
from mrcnn.errors import InputError
from mrcnn.instance_masks import Crop

Instance = tuple[int, Crop]  # class id and mask

_SHOWN = 5
_MOST_COVERED = 0.9  # maximum share of an image that one instance normally covers
_MOST_SPECKS, _SPECK = 100, 4  # components in a data set, and pixels of each
_MOST_RINGED, _MANY_RINGED = 0.8, 0.3  # share of the masks with a higher class; normal anatomy reaches 1/7
_LEAST_INSIDE = 3  # pixels that an outline encloses, for each of its own
_MOST_CODES = 10  # values up to this one are class codes, not shades
_FEW_PIXELS, _LEAST_SIDE = 2, 64  # difference in size by rounding, of an image of this size
_SAME_SHAPE, _CROPPED = 0.01, (0.9, 1.1)  # tolerance of the aspect ratio, and scales that may be those of a crop
_NEAREST = "resize masks with nearest neighbor, and save them as PNG or TIFF only"


class MaskChecks:
    """Check masks one by one, then report with values and files in `warnings`."""

    def __init__(self, options: MasksOptions) -> None:
        self._options = options
        self._classes = len(options.class_names) if options.instances != "values" else 1
        self._blended: list[str] = []
        self._lossy: list[str] = []
        self._colors: dict[tuple[int, ...], list[str]] = {}
        self._scaled: list[str] = []
        self._shades: Sequence[int] = ()
        self._void: list[str] = []
        self._void_alone: list[str] = []
        self._alpha: list[str] = []
        self._several: list[str] = []
        self._codes: set[int] = set()
        self._ringed: dict[int, list[str]] = {}
        self._highest: list[int] = []
        self._solid: set[int] = set()
        self._covering: list[str] = []
        self._outlined: list[str] = []
        self._objects = self._exchanged = self._specks = 0
        self._specked: list[str] = []

    @property
    def is_binary(self) -> bool:
        """Whether masks hold one class without numbered instances, so that blended values can be thresholded."""
        return self._classes == 1 and self._options.instances != "values"

    def scale(self, labels: LabelImage, row: Mapping[str, Any], where: str) -> LabelImage:
        """Scale a mask with nearest neighbor if it has the shape of its image, and another size."""
        self._lossy += [where] * labels.lossy
        if labels.color is not None:
            self._colors.setdefault(labels.color, []).append(where)
        size = row["height"], row["width"]
        if labels.orientation != UPRIGHT or row["orientation"] != UPRIGHT or not _is_scaled(labels.values.shape, size):
            return labels
        self._scaled.append(where)
        rows, columns = ((np.arange(to) + 0.5) * of // to for to, of in zip(size, labels.values.shape, strict=True))
        return replace(labels, values=labels.values[np.ix_(rows.astype(int), columns.astype(int))])

    def clean(self, values: np.ndarray, where: str, from_alpha: bool) -> np.ndarray:
        """Remove void borders and, for a single class, blended edges from the values of a mask (H, W).

        Raises:
            InputError: the mask has blended edges that cannot be distinguished from objects.
        """
        if from_alpha:
            self._alpha.append(where)
        present = nonzero_values(values)
        if present == [VOID]:
            self._void_alone.append(where)
            return np.zeros_like(values) if self._classes > 1 else values
        if self._holds_void(values, present):
            self._void.append(where)
            values = np.where(values == VOID, 0, values)
            present = present[:-1]
        if len(present) < 2:
            return values
        if self._classes > 1:
            return self._look_at_classes(values, present, where)
        of_values = self._options.instances == "values"
        if (of_values or present[-1] > _MOST_CODES) and is_blended(values):
            found = None if of_values else threshold_blended(values)
            if found is None:
                raise InputError(_blended(where, present))
            self._blended.append(where)
            self._shades = self._shades or present
            return found
        if not of_values:
            self._several.append(where)
            self._codes |= set(present)
        return values

    def _holds_void(self, values: np.ndarray, present: Sequence[int]) -> bool:
        if len(present) < 2 or present[-1] != VOID:
            return False
        return self._classes < VOID and (
            has_void_border(values) or (self._classes > 1 and present[-2] <= self._classes)
        )

    def _look_at_classes(self, values: np.ndarray, present: Sequence[int], where: str) -> np.ndarray:
        if present[-1] > self._classes:
            if is_blended(values):
                raise InputError(_blended(where, present))
            return values
        self._highest.append(present[-1])
        self._solid |= solid_values(values, self._classes)
        for value in ringed_values(values, self._classes):
            self._ringed.setdefault(value, []).append(where)
        return values

    def record_instances(self, instances: Iterable[Instance], shape: tuple[int, ...], where: str) -> Iterator[Instance]:
        """Yield the instances of a mask of `shape` (H, W), and record the area that they cover."""
        total = specks = 0
        covers = outlined = False
        pixels = shape[0] * shape[1]
        for class_id, crop in instances:
            area = int(np.count_nonzero(crop.pixels))
            outlined |= _is_outline(crop, area)
            covers |= area > _MOST_COVERED * pixels or crop.tight().pixels.shape == shape
            total, specks = total + area / pixels, specks + (area <= _SPECK)
            yield class_id, crop
        self._objects += total > 0
        self._exchanged += covers and total > 0.5
        self._covering += [where] if covers else []
        self._outlined += [where] if outlined else []
        self._specks += specks
        self._specked += [where] if specks else []

    def void_files(self) -> set[str]:
        """Return files that contain only 255, if 255 is a void border in others."""
        return set(self._void_alone) if self._void else set()

    def rejected_files(self) -> dict[str, str]:
        """Return problems by file that only the whole data set reveals: interpolated masks of classes, and 255.

        A class that is nowhere more than an outline of others may be anatomy, such as a wall, and is not rejected.
        """
        names = self._options.class_names
        alone = () if self._void or self._classes == 1 else self._void_alone
        found = {where: unknown_value(where, VOID, names) for where in alone}
        if len(self._colors) > 1:
            several = " and ".join(map(str, self._colors))
            for where in (where for files in self._colors.values() for where in files):
                found[where] = f"{where}: the masks have the colors {several}; expected one, or a value for each class"
        for value, files in self._ringed.items():
            if value in self._solid and self._ringed_share(value) >= _MOST_RINGED:
                text = (
                    f"{names[value - 1]} ({value}) only lines the outline of classes above it, as where masks were "
                    f"resized with interpolation; expected its own pixels. Mend: {_NEAREST}"
                )
                found |= {where: f"{where}: {text}" for where in files}
        return found

    def _ringed_share(self, value: int) -> float:
        """Compute the share of masks with a higher class in which this class is only an outline."""
        return len(self._ringed[value]) / sum(highest > value for highest in self._highest)

    def warnings(self) -> list[str]:
        """Return one warning with files for each kind of suspicious mask."""
        lists: list[tuple[str, Sequence[str]]] = [
            (
                f"masks have blended edges from JPEG or resizing (values {_listed(self._shades)}) and count as object "
                "from half of their largest value on",
                self._blended,
            ),
            (
                "masks are JPEG files, which blend edges; they count as object from half of their value on",
                self._lossy,
            ),
            (
                "masks have the shape of their images but another size, and are scaled; look at their pictures",
                self._scaled,
            ),
            ("masks have one color everywhere and are read from their alpha channel", self._alpha),
            (
                "masks hold 255 as PASCAL VOC does, for the void border of smaller values; it is left out",
                [*self._void, *sorted(self.void_files())],
            ),
            (
                f"masks hold several values ({_listed(sorted(self._codes))}) that count as one class; if values are "
                "instances or classes, set masks.instances=values or masks.class_names",
                self._several,
            ),
            *(
                (
                    f"masks have {self._options.class_names[value - 1]} ({value}) only as a line around classes above "
                    "it, as interpolation makes it; look at their pictures",
                    files,
                )
                for value, files in self._ringed.items()
                if self._ringed_share(value) >= _MANY_RINGED and not set(files) & set(self.rejected_files())
            ),
            (self._covering_text(), self._covering),
            (
                "masks hold an outline around nothing, as where only borders are drawn; the instance is the line, so "
                "fill the outlines",
                self._outlined if self._classes == 1 and len(self._outlined) * 2 > self._objects else (),
            ),
        ]
        if self._specks >= _MOST_SPECKS:
            lists.append((f"masks hold {self._specks} pieces of at most {_SPECK} pixels", self._specked))
        return [line for text, files in lists for line in name_warnings(text, files)]

    def _covering_text(self) -> str:
        text = "masks hold an instance that covers most of its image or reaches all four borders"
        if self._exchanged * 2 > self._objects:
            return f"{text}: in most of the set, as where object and background are exchanged; look at their pictures"
        return f"{text}; look at their pictures"


def unknown_value(where: str, value: int, names: Sequence[str]) -> str:
    """Format the problem of a value without a class."""
    return f"{where}: holds the value {value}; class_names has {len(names)}: {', '.join(names)}"


def _is_outline(crop: Crop, area: int) -> bool:
    """Check for a thin line around a single hole; vessels enclose several."""
    piece = crop.pixels
    if not area or piece.size < _LEAST_INSIDE * area:
        return False
    holes = binary_fill_holes(piece) & ~piece
    _, count = label(holes)  # pyright: ignore[reportGeneralTypeIssues] - SciPy has no annotations
    return np.count_nonzero(holes) >= _LEAST_INSIDE * area and count == 1


def _is_scaled(size: tuple[int, ...], of_image: tuple[int, int]) -> bool:
    """Check whether a mask differs from its image by two pixels at most, or was resized with it.

    A mask that is slightly smaller may be cropped instead, so that nothing tells where it lies.
    """
    if size == of_image or not all(size):
        return False
    if all(abs(side - other) <= _FEW_PIXELS for side, other in zip(size, of_image, strict=True)):
        return min(of_image) >= _LEAST_SIDE
    height, width = (other / side for side, other in zip(size, of_image, strict=True))
    return abs(height / width - 1) <= _SAME_SHAPE and not _CROPPED[0] < height < _CROPPED[1]


def _blended(where: str, present: Sequence[int]) -> str:
    return (
        f"{where}: holds {len(present)} values ({_listed(present)}) that are blended at edges, as JPEG or resizing "
        f"leaves them; expected the values that were drawn. Mend: {_NEAREST}"
    )


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:_SHOWN])) + (", …" if len(values) > _SHOWN else "")
