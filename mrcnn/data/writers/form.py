"""Define what every written form has in common: its description, the images of a data set, and what the form loses."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mrcnn.data.io.pictures import UPRIGHT
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError, counted
from mrcnn.instance_masks import InstanceMasks

COMMON_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
FIELDS = {
    "patient_id": "patients",
    "spacing_mm": "pixel sizes",
    "label": "image-level classes",
    "split": "splits",
    "crowds": "crowd regions",
}
"""Fields of `WrittenImage` that not every form can carry, as messages name them."""


@dataclass(frozen=True)
class WrittenImage:
    """Describe an image whose annotations are written.

    Attributes:
        path: path of its file below the folder of the data set, with forward slashes.
        masks: N instances.
        class_ids: (N,) 1-based.
        scores: (N,) if a model found the instances, else None.
        patient_id: patient, or None if every image is its own.
        spacing_mm: (row, column) size of a pixel, or None.
        label: image-level class, or None.
        split: train, val or test, or None.
        crowds: regions of instances without individual outlines, or None.
        crowd_ids: class of each crowd region.
    """

    path: str
    masks: InstanceMasks
    class_ids: np.ndarray
    scores: np.ndarray | None = None
    patient_id: str | None = None
    spacing_mm: Spacing | None = None
    label: str | None = None
    split: str | None = None
    crowds: InstanceMasks | None = None
    crowd_ids: Sequence[int] = ()


@dataclass(frozen=True)
class Form:
    """Describe how a form of annotations is written.

    Attributes:
        title: name of the form in messages.
        write: (images, class names, folder) → writes the annotations beside the images, which exist; returns warnings
            about what the form does not hold.
        image_path: (name, split) → path of an image below the folder.
        fields: the `FIELDS` that the form carries.
        suffixes: image files that its tools open; others are written as PNG.
    """

    title: str
    write: Callable[[Sequence[WrittenImage], Sequence[str], Path], list[str]]
    image_path: Callable[[str, str | None], str]
    fields: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = COMMON_SUFFIXES

    def suffix(self, source: Path, orientation: int) -> str:
        """Return the suffix of the written file of an image: its own if the file can be copied, else `.png`."""
        own = source.suffix.lower()
        return own if own in self.suffixes and orientation == UPRIGHT else ".png"


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the `with` block succeeds.

    Raises:
        InputError: the folder contains files, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: contains files; expected a new or an empty folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            fresh = Path(scratch, "fresh")
            fresh.mkdir()
            yield fresh
            if folder.exists():
                folder.rmdir()
            fresh.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error


def below_images(name: str, split: str | None) -> str:
    """Return `images/<split>/<name>`, the place of images in most forms."""
    return f"images/{split}/{name}" if split else f"images/{name}"


def place_image(target: Path, source: Path | None, orientation: int, read: Callable[[], np.ndarray]) -> bool:
    """Copy an image file, or write its pixels as PNG if `target` has another suffix or the file is turned by EXIF.

    Args:
        target: file to write.
        source: image file; None for a slice of a volume.
        orientation: EXIF orientation of the file.
        read: returns its pixels (H, W, C), uint8 or float32.

    Returns:
        Whether the pixels had to be scaled to 8 bits.

    Raises:
        InputError: the image has neither one nor three channels.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source is not None and target.suffix == source.suffix.lower() and orientation == UPRIGHT:
        shutil.copyfile(source, target)
        return False
    pixels, scaled = read(), False
    if pixels.shape[2] not in (1, 3):
        raise InputError(
            f"{source or target.name}: has {pixels.shape[2]} channels; expected one or three, as a PNG file has"
        )
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        if low >= 0 and high <= np.iinfo(np.uint16).max and (pixels == np.rint(pixels)).all():
            pixels = pixels.astype(np.uint16)
        else:
            pixels, scaled = np.rint((pixels - low) * (255 / max(high - low, 1e-12))).astype(np.uint8), True
    encoded = cv2.imencode(".png", pixels[..., ::-1])[1]  # OpenCV stores blue first
    target.write_bytes(encoded.tobytes())
    return scaled


def lost_fields(form: Form, images: Sequence[WrittenImage]) -> list[str]:
    """Return a warning about the fields of the images that the form does not carry, with their number."""
    counts = []
    for field, name in FIELDS.items():
        values = [getattr(image, field) for image in images]
        count = sum(len(value) if field == "crowds" else 1 for value in values if value is not None)
        if count and field not in form.fields:
            counts.append(f"{name} ({count})" if field == "crowds" else f"{name} (of {counted(count, 'image')})")
    if not counts:
        return []
    remedy = "; --patient_pattern finds patients in file names" if counts[0].startswith("patients") else ""
    return [f"{form.title} has no place for {', '.join(counts)}, which are not written{remedy}"]
