"""Define `Dataset`, a sequence of annotated images that are opened on access."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.data.digest import cached_file_digest
from mrcnn.data.io.images import read_image
from mrcnn.data.names import source_name
from mrcnn.data.sample import Sample, SlicePosition, Spacing, read_with_context
from mrcnn.errors import InputError
from mrcnn.instance_masks import InstanceMasks

if TYPE_CHECKING:  # importing nibabel takes half a second
    from mrcnn.data.io.volumes import Pictures, Volume
    from mrcnn.data.problems import Problems


@dataclass(frozen=True, eq=False)
class Record:
    """Describe an annotated image without opening it.

    Attributes:
        file_name: name in the annotations; `Sample.source`.
        path: image file; for a slice, the first file of its volume.
        height: pixels.
        width: pixels.
        patient_id: patient shown in the image.
        class_ids: (N,) int32, 1-based.
        boxes: (N, 4) float32, (x1, y1, x2, y2) pixels, tight around the mask, x2 and y2 exclusive.
        areas: (N,) int64, mask areas in pixels.
        label: image-level class, or None.
        spacing_mm: (row, column) size of a pixel in millimeters, or None.
        place: position of a slice in its volume, or None.
        volume: volume that contains the slice at `place`; None if the file at `path` is the image.
        pseudonymous: whether `patient_id` is a pseudonym from the image file; it differs between machines.
        crowd_ids: class of each crowd region; see `Sample.crowd_masks`.
        orientation: EXIF orientation of the file; height, width and masks refer to the displayed image.
        split: train, val or test, if the annotation tool states it; see `find_stated_splits`.
        slice_files: files of all slices of the volume, in order, if each slice is a file; else empty.
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
    volume: Volume | Pictures | None = None
    pseudonymous: bool = False
    crowd_ids: tuple[int, ...] = ()
    orientation: int = 1
    split: str | None = None
    slice_files: tuple[Path, ...] = ()

    def read(self, context_slices: int = 0) -> np.ndarray:
        """Read the (H, W, C) pixels of `Sample.image`; with context those of `read_with_context`.

        Raises:
            InputError: a file cannot be read, or the image is no slice of a volume, which context needs.
        """
        volume, place = self.volume, self.place
        if volume is not None and place is not None:
            if not context_slices:
                return volume.read_slice(place.index)
            return read_with_context(volume.read_slice, place.index, volume.shape[0], context_slices)
        if not context_slices:
            return read_image(self.path)
        files = self.slice_files
        if self.path not in files:
            raise InputError(
                f"{self.file_name}: is no slice of a volume; expected volumes or folders of numbered slices (lgg), "
                f"since the model sees each slice with its neighbors (context_slices={context_slices})"
            )
        return read_with_context(
            lambda number: read_image(files[number]), files.index(self.path), len(files), context_slices
        )

    @property
    def slice_count(self) -> int:
        """Number of slices of the volume; 1 if the image is no slice."""
        return len(self.slice_files) or (1 if self.volume is None or self.place is None else self.volume.shape[0])

    def content_digest(self) -> str:
        """Return a string that identifies the pixels."""
        if self.volume is None or self.place is None:
            return cached_file_digest(self.path)
        return f"{self.volume.digest}:{self.place.index}"


class Dataset:
    """Hold annotated images in a fixed order; `dataset[i]` opens image i as a `Sample`.

    Args:
        class_names: class id c is `class_names[c - 1]`.
        records: one per image.
        runs: for each record the N compressed COCO run-length strings of its masks, in the order of `class_ids`.
        warnings: notes on the data for the user, one line each.
        problems: skippable problems of the data; the affected images are included.
        skipped: problems of images and annotations that were left out, one line each.
        crowds: for each record the run-length strings of its crowd regions, in the order of `crowd_ids`; None without
            crowds.
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
        """Open an image with its masks. Raises `InputError` like `image`."""
        return self.sample(index)

    def sample(self, index: int, context_slices: int = 0) -> Sample:
        """Open an image with its masks; `context_slices` as in `image`. Raises `InputError` like `image`."""
        record = self.records[index]
        return Sample(
            image=self.image(index, context_slices),
            masks=self.instances(index),
            class_ids=record.class_ids,
            patient_id=record.patient_id,
            source=record.file_name,
            spacing_mm=record.spacing_mm,
            label=record.label,
            place=record.place,
            crowd_masks=self.crowds(index),
            crowd_ids=None if self._crowds is None else np.array(record.crowd_ids, np.int32),
            context_slices=context_slices,
        )

    def image(self, index: int, context_slices: int = 0) -> np.ndarray:
        """Read the (H, W, C) pixels of an image; with `context_slices` those of `read_with_context`.

        Raises:
            InputError: the file cannot be read, its size differs from the annotations, or `context_slices` is not 0 and
                the image is no slice.
        """
        record = self.records[index]
        image = record.read(context_slices)
        if image.shape[:2] != (record.height, record.width):
            raise InputError(
                f"{record.path}: image is {image.shape[1]}×{image.shape[0]} pixels; "
                f"the annotations expect {record.width}×{record.height}"
            )
        return image

    def masks(self, index: int) -> np.ndarray:
        """Decode the (N, H, W) bool masks of an image without opening its file."""
        return self.instances(index).to_array()

    def instances(self, index: int) -> InstanceMasks:
        """Return the masks of an image in compact form, without opening its file."""
        record = self.records[index]
        return InstanceMasks(record.height, record.width, self._runs[index])

    def crowds(self, index: int) -> InstanceMasks | None:
        """Return the crowd regions of an image, in the order of `Record.crowd_ids`; None if no image has any."""
        record = self.records[index]
        return None if self._crowds is None else InstanceMasks(record.height, record.width, self._crowds[index])

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Select the images at `indices`, in that order, with the same classes, warnings and problems."""
        chosen = [int(index) for index in indices]
        return self._replace(
            records=[self.records[index] for index in chosen],
            runs=[self._runs[index] for index in chosen],
            crowds=self._crowds and [self._crowds[index] for index in chosen],
        )

    def valid_indices(self) -> np.ndarray:
        """Return the positions of the images without problems, int64."""
        invalid = {fault.image for fault in self.problems.faults} if self.problems else set()
        return np.flatnonzero([record.path not in invalid for record in self.records])

    def without_invalid(self) -> Dataset:
        """Remove the images that have problems, and list these problems in `skipped`.

        One invalid annotation removes its whole image: otherwise training and evaluation would count the annotated
        object as background.

        Raises:
            InputError: no image is left; the message lists all problems.
        """
        if self.problems is None or not self.problems.faults:
            return self
        valid = self.subset(self.valid_indices())
        if not len(valid):
            self.problems.raise_if_any()
        invalid = {fault.image for fault in self.problems.faults}
        records = [
            replace(record, slice_files=tuple(file for file in record.slice_files if file not in invalid))
            if record.slice_files
            else record
            for record in valid.records
        ]
        return valid._replace(
            records=records, problems=None, skipped=[*self.skipped, *(fault.problem for fault in self.problems.faults)]
        )

    def with_classes(self, class_names: Sequence[str], class_ids: Sequence[int] | np.ndarray) -> Dataset:
        """Return a copy with other classes.

        Args:
            class_names: the new classes.
            class_ids: for each old class id, from 0, the new class id; 0 stays 0.
        """
        new_ids = np.asarray(class_ids, np.int32)
        records = [
            replace(
                record,
                class_ids=new_ids[record.class_ids],
                crowd_ids=tuple(int(new_ids[each]) for each in record.crowd_ids),
            )
            for record in self.records
        ]
        return self._replace(class_names=tuple(class_names), records=records)

    def with_warnings(self, warnings: Iterable[str]) -> Dataset:
        """Return a copy with additional warnings."""
        return self._replace(warnings=[*self.warnings, *warnings])

    def with_spacing(self, spacing_mm: float | Spacing) -> Dataset:
        """Return a copy with this pixel size, (row, column) or one side in mm, for the images that have none."""
        pair = spacing_mm if isinstance(spacing_mm, tuple) else (spacing_mm, spacing_mm)
        records = [record if record.spacing_mm else replace(record, spacing_mm=pair) for record in self.records]
        return self._replace(records=records)

    def _replace(self, **changes: Any) -> Dataset:
        arguments = {
            "class_names": self.class_names,
            "records": self.records,
            "runs": self._runs,
            "warnings": self.warnings,
            "problems": self.problems,
            "skipped": self.skipped,
            "crowds": self._crowds,
        }
        return Dataset(**(arguments | changes))

    @cached_property
    def digest(self) -> str:
        """Compute the SHA-256 (hex) of the image files and annotations, independent of their order and file names.

        Reads every file whose digest is not cached.
        """
        return self._digest(sorted(self.record_digests))

    @property
    def ordered_digest(self) -> str:
        """Compute a digest like `digest` that depends on the order of the images, which determines the batches."""
        return self._digest(self.record_digests)

    def _digest(self, digests: Iterable[bytes]) -> str:
        return hashlib.sha256(json.dumps(self.class_names).encode() + b"".join(digests)).hexdigest()

    @cached_property
    def record_digests(self) -> tuple[bytes, ...]:
        """Compute the SHA-256 of file and annotations for each image, in threads."""
        with ThreadPoolExecutor() as threads:
            return tuple(threads.map(self._record_digest, range(len(self))))

    def _record_digest(self, index: int) -> bytes:
        record = self.records[index]
        instances = sorted(
            (int(class_id), counts.decode("ascii"))
            for class_id, counts in zip(record.class_ids, self._runs[index], strict=True)
        )
        facts = [
            record.content_digest(),
            record.height,
            record.width,
            # The digest of the file already covers the patient that the file names.
            None if record.pseudonymous else record.patient_id,
            record.label,
            record.spacing_mm,
            instances,
        ]
        if record.crowd_ids and self._crowds:  # keeps the digests of data sets without crowds unchanged
            crowds = zip(record.crowd_ids, self._crowds[index], strict=True)
            facts.append(sorted((int(class_id), counts.decode("ascii")) for class_id, counts in crowds))
        return hashlib.sha256(json.dumps(facts).encode()).digest()


def names_patients(records: Iterable[Record]) -> bool:
    """Return whether any image names its patient; an image that names none counts as a patient of its own."""
    return any(record.patient_id != source_name(record.file_name) for record in records)
