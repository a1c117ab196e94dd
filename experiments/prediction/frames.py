"""Read the frames of an item in the form that the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.prediction.detector import Detector
from experiments.prediction.inputs import STACKS, Item
from mrcnn.data.io.images import read_header, read_image
from mrcnn.data.sample import Spacing, read_with_context
from mrcnn.data.transforms.normalization import match_channels
from mrcnn.errors import InputError

if TYPE_CHECKING:  # importing nibabel takes half a second
    from mrcnn.data.io.volume_files import VolumeFiles


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
        to_source: reorders a stack of `shape` to the axial stack of a NIfTI file, or to the slices of a DICOM series.
        to_input: (number, image) → what the network takes: the image, with context also its neighbors.
        alone: whether the network needs neighbors, and the frames have none but themselves.
    """

    expected: int
    spacing_mm: Spacing | None
    iterate: Callable[[], Iterator[tuple[int, np.ndarray]]]
    read: Callable[[int], np.ndarray] | None = None
    shape: tuple[int, int, int] | None = None
    rate: Fraction | None = None
    to_source: Callable[[np.ndarray], np.ndarray] = lambda stack: stack
    to_input: Callable[[int, np.ndarray], np.ndarray] = lambda number, image: image
    alone: bool = False


def open_frames(item: Item, detector: Detector) -> Frames:
    """Open an item. Reading its frames can raise `InputError` too.

    Raises:
        InputError: the item cannot be read, or the model was not trained on this kind of item.
    """
    if detector.volumes and item.kind not in STACKS:
        raise InputError(
            f"{item.source}: this model was trained on volumes, each scaled as a whole; expected a NIfTI volume, a "
            "case or a DICOM series, not a single image or video"
        )
    series, loop = (_volume, _volume) if detector.volumes else (_series, _loop)
    openers = {"video": _video, "series": series, "volume": _volume, "case": _volume, "loop": loop}
    frames = openers.get(item.kind, _image)(item, detector)
    return _with_neighbors(frames, item, detector) if detector.context_slices else frames


def _with_neighbors(frames: Frames, item: Item, detector: Detector) -> Frames:
    """Give the network each frame with its neighbors: slices of the stack, or numbered images of the folder."""
    if frames.shape is not None and frames.read is not None:
        read, count = frames.read, frames.shape[0]
    elif item.slices:
        read, count = lambda number: read_image(item.slices[number]), len(item.slices)
    else:
        return replace(frames, to_input=lambda _, image: detector.with_own_neighbors(image), alone=True)

    @lru_cache(2 * detector.context_slices + 1)
    def matched(number: int) -> np.ndarray:
        return match_channels(read(number), detector.channels)

    def to_input(number: int, _: np.ndarray) -> np.ndarray:
        number = item.slices.index(item.files[0]) if item.slices else number
        return read_with_context(matched, number, count, detector.context_slices)

    return replace(frames, to_input=to_input)


def _image(item: Item, _: Detector) -> Frames:
    header = read_header(item.files[0])
    return _stack((0,), header.spacing_mm, lambda _: read_image(item.files[0]))


def _series(item: Item, _: Detector) -> Frames:
    header = read_header(item.files[0])
    numbers = tuple(range(len(item.files)))
    shape = (len(numbers), header.height, header.width)
    return _stack(numbers, header.spacing_mm, lambda index: read_image(item.files[index]), shape)


def _volume(item: Item, detector: Detector) -> Frames:
    from mrcnn.data.io.volume_files import from_plane, plane_sizes, to_plane
    from mrcnn.data.io.volumes import Volume, background_value, volume_digest

    source = _channels(item, detector)
    opened = source.open()
    grid, plane = opened[0], detector.plane
    first = grid.stack()
    if not detector.volumes:
        slices = first.astype(np.float32, copy=False)
        spacing = grid.spacing_mm[1], grid.spacing_mm[2]
        return _stack(tuple(range(grid.shape[0])), spacing, lambda index: slices[index][..., None], grid.shape)
    # As in training (`mrcnn.data.readers.volumes`): only slices with content in the first channel.
    content = to_plane(first != background_value(first), plane).any(axis=(1, 2))
    shape, (_, *sides) = plane_sizes(grid.shape, plane), plane_sizes(grid.spacing_mm, plane)
    volume = Volume(source, shape, volume_digest(source, plane, detector.scaling), (), plane=plane,
                    scaling=detector.scaling)  # fmt: skip

    def to_source(stack: np.ndarray) -> np.ndarray:
        axial = from_plane(stack, plane)
        return grid.from_stack(axial).transpose(2, 1, 0) if source.dicom else axial

    frames = _stack(tuple(np.flatnonzero(content).tolist()), (sides[0], sides[1]), volume.read_slice, shape)
    return replace(frames, to_source=to_source)


def _loop(item: Item, _: Detector) -> Frames:
    """Open a DICOM file of several frames."""
    from mrcnn.data.io.dicom import read_dicom_frame, read_frames_header

    count, height, width, spacing = read_frames_header(item.files[0])
    return _stack(tuple(range(count)), spacing, lambda index: read_dicom_frame(item.files[0], index),
                  (count, height, width))  # fmt: skip


def _channels(item: Item, detector: Detector) -> VolumeFiles:
    """Return the files of the channels, in the order of the training."""
    from mrcnn.data.io.nifti import count_channels
    from mrcnn.data.io.volume_files import VolumeFiles

    if item.kind in ("series", "loop"):
        return _fitting(VolumeFiles(item.files, (), True), item, detector)
    if item.kind == "volume" and detector.volumes and (count := count_channels(item.files[0]) or 1) > 1:
        return _fitting(VolumeFiles(item.files, tuple(range(count))), item, detector)
    return VolumeFiles(_modality_files(item, detector))


def _fitting(source: VolumeFiles, item: Item, detector: Detector) -> VolumeFiles:
    if source.count != detector.channels:
        names = ", ".join(detector.modalities or ()) or "its channels"
        raise InputError(f"{item.source}: has {source.count} channels; this model takes {detector.channels}: {names}")
    return source


def _modality_files(item: Item, detector: Detector) -> tuple[Path, ...]:
    """Return a NIfTI file for each channel."""
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
    if all(name.isdigit() for name in item.modalities) and len(item.modalities) == detector.channels:
        return item.files  # numbered as in nnU-Net
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
