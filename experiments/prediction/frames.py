"""An item's pixels, frame by frame, as the model was trained to see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from experiments.prediction.detector import Detector
from experiments.prediction.inputs import Item
from mrcnn.data.digest import files_digest
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.sample import Spacing
from mrcnn.errors import InputError

_ANY_CODES = "brats2018"
"""Of a volume that is only read to be predicted; `Volume` wants to know how its label map is written."""


@dataclass(frozen=True)
class Frames:
    """An item opened.

    Attributes:
        numbers: of the frames to predict; None where the file does not tell, as of a video.
        expected: about how many there are.
        spacing_mm: (row, column) size of a pixel, or None.
        each: yields (number, image) in order.
        read: number → image; None where that would mean to read all before it.
        shape: (slices, rows, columns) of a stack, all of it, or None.
        slice_mm: from slice to slice of a volume, or None.
        rate: frames a second of a video, or None.
    """

    numbers: tuple[int, ...] | None
    expected: int
    spacing_mm: Spacing | None
    each: Callable[[], Iterator[tuple[int, np.ndarray]]]
    read: Callable[[int], np.ndarray] | None = None
    shape: tuple[int, int, int] | None = None
    slice_mm: float | None = None
    rate: Fraction | None = None


def open_frames(item: Item, detector: Detector) -> Frames:
    """Opens an item. Reading a frame later may raise `InputError` too.

    Raises:
        InputError: it cannot be read, or is of a kind that this model was not trained on.
    """
    if detector.volumes and item.kind not in ("volume", "case"):
        raise InputError(
            f"{item.source}: this model was trained on NIfTI volumes, normalised over the brain; expected a volume or "
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
    shape, (step, *spacing) = opened[0].shape, opened[0].spacing_mm
    first = opened[0].stack()
    if not detector.volumes:
        slices = first.astype(np.float32, copy=False)
        return _stack(tuple(range(shape[0])), tuple(spacing), lambda index: slices[index][..., None], shape, step)
    # As `mrcnn.data.readers.brats` chooses the slices of a training: those in which the first modality shows brain.
    brain = (first != background_value(first)).any(axis=(1, 2))
    volume = Volume(files, shape, files_digest(files), _ANY_CODES)
    return _stack(tuple(np.flatnonzero(brain).tolist()), tuple(spacing), volume.read_slice, shape, step)


def _channels(item: Item, detector: Detector):
    """The files that make up the channels, in the order of the training."""
    if item.kind == "volume" or not detector.volumes:
        if len(item.files) == 1 and (detector.channels == 1 or not detector.volumes):
            return item.files
        if item.kind == "case":
            raise InputError(
                f"{item.source}: has {', '.join(item.modalities)}; this model takes one image; name the file"
            )
        wanted = ", ".join(detector.modalities or ()) or f"{detector.channels} modalities"
        raise InputError(f"{item.source}: is one volume; this model takes {wanted}; expected the folder of a case")
    wanted = detector.modalities
    if wanted is None:
        if len(item.modalities) != detector.channels:
            raise InputError(
                f"{item.source}: has {', '.join(item.modalities)}, and this model takes {detector.channels} modalities "
                "without saying which; expected --modalities"
            )
        wanted = item.modalities
    if missing := [name for name in wanted if name not in item.modalities]:
        raise InputError(f"{item.source}: has no {missing[0]}; this model takes {', '.join(wanted)}")
    return tuple(item.files[item.modalities.index(name)] for name in wanted)


def _video(item: Item, _: Detector) -> Frames:
    from mrcnn.data.io.video import read_frames, read_video_header

    header = read_video_header(item.files[0])
    return Frames(None, header.count, None, lambda: enumerate(read_frames(item.files[0])), rate=header.rate)


def _stack(
    numbers: tuple[int, ...],
    spacing_mm: Spacing | None,
    read: Callable[[int], np.ndarray],
    shape: tuple[int, int, int] | None = None,
    slice_mm: float | None = None,
) -> Frames:
    return Frames(
        numbers, len(numbers), spacing_mm, lambda: ((number, read(number)) for number in numbers), read, shape, slice_mm
    )
