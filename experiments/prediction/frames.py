"""Read the frames of an item in the form that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from experiments.prediction.detector import Detector
from experiments.prediction.inputs import Item
from mrcnn.data.digest import files_digest
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_ANY_CODES = "brats2018"
"""`Volume` requires label codes, which have no effect on reading images."""


@dataclass(frozen=True)
class Frames:
    """The frames of an item.

    Attributes:
        expected: approximate number of frames.
        spacing_mm: (row, column) size of a pixel, or None.
        iterate: yields (number, image) in order.
        read: number → image; None for a video, which has no random access.
        shape: (slices, rows, columns) of the whole stack, or None.
        rate: frames per second of a video, or None.
    """

    expected: int
    spacing_mm: Spacing | None
    iterate: Callable[[], Iterator[tuple[int, np.ndarray]]]
    read: Callable[[int], np.ndarray] | None = None
    shape: tuple[int, int, int] | None = None
    rate: Fraction | None = None


def open_frames(item: Item, detector: Detector) -> Frames:
    """Open an item. Reading its frames can raise `InputError` too.

    Raises:
        InputError: the item cannot be read, or the model was not trained on this kind of item.
    """
    if detector.volumes and item.kind not in ("volume", "case"):
        raise InputError(
            f"{item.source}: this model was trained on NIfTI volumes, normalized over the brain; expected a volume or "
            "a case, not a single image, DICOM or video"
        )
    return {"video": _video, "series": _series, "volume": _volume, "case": _volume}.get(item.kind, _image)(
        item, detector
    )


def _image(item: Item, _: Detector) -> Frames:
    header = read_header(item.files[0])
    return _stack((0,), header.spacing_mm, lambda _: read_image(item.files[0]))


def _series(item: Item, _: Detector) -> Frames:
    header = read_header(item.files[0])
    numbers = tuple(range(len(item.files)))
    shape = (len(numbers), header.height, header.width)
    return _stack(numbers, header.spacing_mm, lambda index: read_image(item.files[index]), shape)


def _volume(item: Item, detector: Detector) -> Frames:
    from mrcnn.data.io.nifti import open_nifti
    from mrcnn.data.io.volumes import Volume, background_value

    files = _channels(item, detector)
    opened = [open_nifti(file) for file in files]
    for other in opened[1:]:
        if not other.has_same_grid(opened[0]):
            raise InputError(f"{other.path.name}: lies on another grid than {files[0].name}: {other.grid()}")
    shape, spacing = opened[0].shape, opened[0].spacing_mm[1:]
    first = opened[0].stack()
    if not detector.volumes:
        slices = first.astype(np.float32, copy=False)
        return _stack(tuple(range(shape[0])), spacing, lambda index: slices[index][..., None], shape)
    # As in training (`mrcnn.data.readers.brats`): only slices with brain in the first modality.
    brain = (first != background_value(first)).any(axis=(1, 2))
    volume = Volume(files, shape, files_digest(files), _ANY_CODES)
    return _stack(tuple(np.flatnonzero(brain).tolist()), spacing, volume.read_slice, shape)


def _channels(item: Item, detector: Detector) -> tuple[Path, ...]:
    """Return the files of the channels, in the order of the training."""
    if item.kind == "volume" or not detector.volumes:
        if len(item.files) == 1 and (detector.channels == 1 or not detector.volumes):
            return item.files
        if item.kind == "case":
            raise InputError(
                f"{item.source}: has {', '.join(item.modalities)}; this model takes one image; name the file"
            )
        needed = ", ".join(detector.modalities or ()) or f"{detector.channels} modalities"
        raise InputError(f"{item.source}: is one volume; this model takes {needed}; expected the folder of a case")
    modalities = detector.modalities
    if modalities is None:
        if len(item.modalities) != detector.channels:
            raise InputError(
                f"{item.source}: has {', '.join(item.modalities)}, and this model takes {detector.channels} modalities "
                "without saying which; expected --modalities"
            )
        modalities = item.modalities
    if missing := [name for name in modalities if name not in item.modalities]:
        raise InputError(f"{item.source}: has no {missing[0]}; this model takes {', '.join(modalities)}")
    return tuple(item.files[item.modalities.index(name)] for name in modalities)


def _video(item: Item, _: Detector) -> Frames:
    from mrcnn.data.io.video import read_frames, read_video_header

    header = read_video_header(item.files[0])
    return Frames(header.count, None, lambda: enumerate(read_frames(item.files[0])), rate=header.rate)


def _stack(
    numbers: tuple[int, ...],
    spacing_mm: Spacing | None,
    read: Callable[[int], np.ndarray],
    shape: tuple[int, int, int] | None = None,
) -> Frames:
    return Frames(len(numbers), spacing_mm, lambda: ((number, read(number)) for number in numbers), read, shape)
