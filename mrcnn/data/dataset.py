"""A set of annotated images that are opened only when asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrcnn.data.digest import content_digest
from mrcnn.data.io.images import read_image
from mrcnn.data.sample import Sample, SlicePosition, Spacing
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

if TYPE_CHECKING:  # what a volume needs takes half a second to load
    from mrcnn.data.io.volumes import Volume
    from mrcnn.data.readers.problems import Problems


@dataclass(frozen=True, eq=False)
class Record:
    """What is known of an annotated image without opening it.

    Attributes:
        file_name: as the annotations name it; the `source` of its sample.
        path: where the file is; of a slice, a file of its volume.
        height: pixels.
        width: pixels.
        patient_id: whom the image shows.
        class_ids: (N,) int32, 1-based.
        boxes: (N, 4) float32, (x1, y1, x2, y2) pixels, tight around the mask, x2 and y2 exclusive.
        areas: (N,) int64, pixels of each mask.
        label: class of the whole image, or None.
        spacing_mm: (row, column) size of a pixel, or None.
        place: of a slice, where it lies in its volume.
        volume: what the slice at `place` is read from; None where the file at `path` is the image.
        crowd_ids: class of each region of a crowd; see `Sample.crowd_masks`.
        pseudonymous: whether `patient_id` is a pseudonym of whom the file itself names, which differs between machines.
        orientation: EXIF orientation in the file; height, width and masks are of the picture as it turns it.
    """

    file_name: str
    path: Path
    height: int
    width: int
    patient_id: str
    class_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    label: str | None = None
    spacing_mm: Spacing | None = None
    place: SlicePosition | None = None
    volume: Volume | None = None
    pseudonymous: bool = False
    crowd_ids: tuple[int, ...] = ()
    orientation: int = 1

    def read(self) -> np.ndarray:
        """The pixels, as `Sample.image` holds them."""
        return read_image(self.path) if self.volume is None else self.volume.read_slice(self.place.index)

    def content(self) -> str:
        """What stands for the pixels in a digest."""
        return content_digest(self.path) if self.volume is None else f"{self.volume.digest}:{self.place.index}"


class Dataset:
    """Annotated images in a fixed order; `dataset[i]` opens the i-th as a `Sample`.

    Args:
        class_names: the classes; class id c is `class_names[c - 1]`.
        records: one an image.
        runs: for each record the N COCO run-length strings of its masks, in the order of its `class_ids`.
        warnings: what a person should know of the data, one line each.
        problems: what is wrong with the data, of which each is passable; the images that they spoil are still there.
        skipped: what was wrong with images and annotations that are not there because of it, one line each.
        crowds: for each record the run-length strings of its regions of crowds, in the order of its `crowd_ids`; None
            where there are none.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        records: Sequence[Record],
        runs: Sequence[Sequence[bytes]],
        warnings: Iterable[str] = (),
        problems: Problems | None = None,
        skipped: Iterable[str] = (),
        crowds: Sequence[Sequence[bytes]] | None = None,
    ) -> None:
        self.class_names = tuple(class_names)
        self.records = tuple(records)
        self.warnings = tuple(warnings)
        self.problems = problems
        self.skipped = tuple(skipped)
        self._runs = tuple(tuple(counts) for counts in runs)
        self._crowds = tuple(tuple(counts) for counts in crowds) if crowds is not None and any(crowds) else None

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        """Opens an image with its masks. Raises `InputError` as `image` does."""
        record = self.records[index]
        return Sample(
            image=self.image(index),
            masks=self.instances(index),
            class_ids=record.class_ids,
            patient_id=record.patient_id,
            source=record.file_name,
            spacing_mm=record.spacing_mm,
            label=record.label,
            place=record.place,
            **self._crowd_fields(index),
        )

    def image(self, index: int) -> np.ndarray:
        """(H, W, C) pixels of an image.

        Raises:
            InputError: the file cannot be read or has another size than annotated.
        """
        record = self.records[index]
        image = record.read()
        if image.shape[:2] != (record.height, record.width):
            raise InputError(
                f"{record.path}: image is {image.shape[1]}×{image.shape[0]} pixels; "
                f"the annotations expect {record.width}×{record.height}"
            )
        return image

    def masks(self, index: int) -> np.ndarray:
        """(N, H, W) bool masks of an image, without opening the image."""
        return self.instances(index).to_array()

    def instances(self, index: int) -> InstanceMasks:
        """The masks of an image, without opening the image or making an array of them."""
        record = self.records[index]
        return InstanceMasks(record.height, record.width, self._runs[index])

    def _crowd_fields(self, index: int) -> dict[str, InstanceMasks | np.ndarray]:
        if self._crowds is None:
            return {}
        record = self.records[index]
        return {
            "crowd_masks": InstanceMasks(record.height, record.width, self._crowds[index]),
            "crowd_ids": np.array(record.crowd_ids, np.int32),
        }

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The images at `indices`, in that order, with the same classes and warnings."""
        chosen = [int(index) for index in indices]
        return Dataset(
            self.class_names,
            [self.records[index] for index in chosen],
            [self._runs[index] for index in chosen],
            self.warnings,
            self.problems,
            self.skipped,
            self._crowds and [self._crowds[index] for index in chosen],
        )

    def unspoilt(self) -> np.ndarray:
        """Positions of the images that no problem spoils."""
        spoilt = {fault.image for fault in self.problems.faults} if self.problems else set()
        return np.flatnonzero([record.path not in spoilt for record in self.records])

    def without_spoilt(self) -> Dataset:
        """The images that no problem spoils; the problems are told as `skipped`.

        An image goes as a whole also where one of its annotations is bad: what was drawn there would be taught, and
        judged, as background.

        Raises:
            InputError: none is left; lists all problems.
        """
        if self.problems is None or not self.problems.faults:
            return self
        sound = self.subset(self.unspoilt())
        if not len(sound):
            self.problems.raise_if_any()
        told = [*self.skipped, *(fault.problem for fault in self.problems.faults)]
        return Dataset(
            sound.class_names, sound.records, sound._runs, sound.warnings, skipped=told, crowds=sound._crowds
        )

    def with_warnings(self, warnings: Iterable[str]) -> Dataset:
        """The same, with more that a person should know."""
        return Dataset(
            self.class_names, self.records, self._runs, [*self.warnings, *warnings], self.problems, self.skipped
        )

    def with_spacing(self, spacing_mm: float | Spacing) -> Dataset:
        """The same, with the (row, column) size of a pixel, or its side, where an image names none."""
        pair = spacing_mm if isinstance(spacing_mm, tuple) else (spacing_mm, spacing_mm)
        records = [record if record.spacing_mm else replace(record, spacing_mm=pair) for record in self.records]
        return Dataset(self.class_names, records, self._runs, self.warnings, self.problems, self.skipped, self._crowds)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the image files' bytes and all annotations; the order of either does not matter.

        File names do not count, so a copy under other names has the same digest. Reads every file, unless it is known.
        """
        whole = hashlib.sha256(json.dumps(self.class_names).encode())
        for digest in sorted(self.record_digests):
            whole.update(digest)
        return whole.hexdigest()

    @property
    def ordered_digest(self) -> str:
        """As `digest`, of the images in their order, which decides what a batch holds."""
        return hashlib.sha256(json.dumps(self.class_names).encode() + b"".join(self.record_digests)).hexdigest()

    @cached_property
    def record_digests(self) -> tuple[bytes, ...]:
        """For each image the SHA-256 over its file's bytes and its annotations; in threads, since they read."""
        with ThreadPoolExecutor() as threads:
            return tuple(threads.map(self._record_digest, range(len(self))))

    def _record_digest(self, index: int) -> bytes:
        record = self.records[index]
        instances = sorted(
            (int(class_id), counts.decode("ascii"))
            for class_id, counts in zip(record.class_ids, self._runs[index], strict=True)
        )
        facts = [
            record.content(),
            record.height,
            record.width,
            # The file's own bytes, which hold whom it shows, are digested already.
            None if record.pseudonymous else record.patient_id,
            record.label,
            record.spacing_mm,
            instances,
        ]
        if record.crowd_ids:  # others have the digest that they always had
            crowds = zip(record.crowd_ids, self._crowds[index], strict=True)
            facts.append(sorted((int(class_id), counts.decode("ascii")) for class_id, counts in crowds))
        return hashlib.sha256(json.dumps(facts).encode()).digest()
