"""Write the output files of an item: JSON, pictures, label maps, DICOM objects and images for annotation tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from experiments.prediction.detector import Detector
from experiments.prediction.frames import Frames
from experiments.prediction.inputs import STACKS, Item
from experiments.prediction.output_formats import ANNOTATION_FORMATS
from experiments.prediction.progress_record import ProgressRecord
from experiments.prediction.results import to_answer, to_detections
from mrcnn.data.io.images import read_header
from mrcnn.data.readers.volumes.brats import REGIONS, label_map, output_label_codes
from mrcnn.data.writers import FORMS, place_image, written_stems
from mrcnn.detections import Detections
from mrcnn.inference.drawing import captioned, color_splash, contact_sheet, overlay, to_display
from mrcnn.inference.label_map import to_label_map
from mrcnn.inference.linking import in_short_objects, link_slices
from trackers.packaging.served import NOTICE
from trackers.runs.serialization import json_text

PNG_LEVEL = 2
"""A third of the time of Pillow's default, for files that are an eighth larger."""
SHEET_SLICES = 12
SHEET_COLUMNS = 4
_SUFFIX = {
    "json": ".json",
    "mask": ".png",
    "nifti": ".nii.gz",
    "objects": ".nii.gz",
    "dicom_seg": ".dcm",
    "rtstruct": ".dcm",
}


def overlay_picture(image: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Draw the instances on the image; (H', W', 3) uint8, see `mrcnn.inference.drawing.overlay`."""
    return overlay(image, found.instances, found.class_ids, class_names, scores=found.scores)


def splash_picture(image: np.ndarray, found: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Draw the instances in color and the rest in gray; (H', W', 3) uint8, see `mrcnn.inference.drawing`."""
    return captioned(color_splash(image, found.instances, found.class_ids), class_names)


PICTURES: Mapping[str, Callable[[np.ndarray, Detections, Sequence[str]], np.ndarray]] = {
    "overlay": overlay_picture,
    "splash": splash_picture,
}


class ItemWriter:
    """Write the files of an item from its frames, added in order; a context manager.

    Attributes:
        files: format → path in the output folder of each file that exists after `finish`.
    """

    def __init__(
        self,
        item: Item,
        frames: Frames,
        detector: Detector,
        formats: frozenset[str],
        record: ProgressRecord,
        keep_patient: bool = False,
    ) -> None:
        self._keep_patient = keep_patient
        self._item, self._frames, self._detector, self._record = item, frames, detector, record
        self._formats = formats
        self._answers: dict[int, dict[str, Any]] = {}
        self._videos: dict[str, Any] = {}
        self._open = ExitStack()
        self.files: dict[str, str] = {name: f"{name}/{self._path(name)}" for name in sorted(formats)}

    def __enter__(self) -> ItemWriter:
        if self._item.kind == "video":
            from mrcnn.data.io.video import VideoWriter

            rate = self._frames.rate
            assert rate is not None  # a video has one
            with ExitStack() as opening:
                for name in self._formats & PICTURES.keys():
                    path = opening.enter_context(self._record.atomic_path(self.files[name]))
                    self._videos[name] = opening.enter_context(VideoWriter(path, rate))
                self._open = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, number: int, image: np.ndarray, found: Detections, findings: Mapping[str, Any]) -> None:
        """Add a frame, its detections and findings."""
        class_names = self._detector.class_names
        self._answers[number] = to_answer(found, class_names, findings)
        for name, video in self._videos.items():
            video.write(PICTURES[name](image, found, class_names))
        if self._item.kind in STACKS or self._item.kind == "video":
            return
        for name in self._formats & PICTURES.keys():
            self._save(name, PICTURES[name](image, found, class_names))
        if "mask" in self._formats:
            self._save("mask", to_label_map(found, class_names))
        for name in self._formats & ANNOTATION_FORMATS:
            with self._record.atomic_path(self.files[name]) as path:
                place_image(path, self._item.files[0], self._orientation, lambda: to_display(image))

    def finish(self) -> None:
        """Link the instances of a stack to objects, and write the files that need all frames, the JSON last."""
        if self._item.kind in STACKS:
            self._link()
            for name in sorted(self._formats & PICTURES.keys()):
                if self._answers:
                    self._save(name, self._sheet(name))
                else:  # a volume without any brain
                    self.files.pop(name)
        if "nifti" in self._formats:
            self._write_nifti()
        if "objects" in self._formats:
            self._write_objects()
        if "dicom_seg" in self._formats:
            self._write_dicom_seg()
        if "rtstruct" in self._formats:
            self._write_structure_set()
        if self._item.kind in ("image", "dicom"):
            content = self._answers[0]
        else:
            frames = [{"frame": number, **answer} for number, answer in self._answers.items()]
            content = {"frames": frames, "notice": NOTICE}
        self._record.write(self.files["json"], json_text(content))

    def _path(self, name: str) -> str:
        """Return the path of the file of a format below the folder of the format."""
        if name in ANNOTATION_FORMATS:
            form, (stem,) = FORMS[name], written_stems([f"{self._item.name}.png"])
            return form.image_path(stem + form.suffix(self._item.files[0], self._orientation), None)
        picture = ".mp4" if self._item.kind == "video" else ".png"
        return self._item.name + (picture if name in PICTURES else _SUFFIX[name])

    @cached_property
    def _orientation(self) -> int:
        return read_header(self._item.files[0]).orientation

    def _detections(self, number: int) -> Detections:
        return to_detections(self._answers[number], self._detector.class_names)

    def _sheet(self, name: str) -> np.ndarray:
        """Draw up to `SHEET_SLICES` slices of a stack on one sheet, evenly spaced among those with instances."""
        numbers = list(self._answers)
        shown = [number for number in numbers if self._answers[number]["instances"]] or [numbers[len(numbers) // 2]]
        chosen = sorted({shown[index] for index in np.linspace(0, len(shown) - 1, SHEET_SLICES).round().astype(int)})
        class_names, read = self._detector.class_names, self._frames.read
        assert read is not None  # only a video has no random access
        pictures = [PICTURES[name](read(each), self._detections(each), class_names) for each in chosen]
        return contact_sheet(pictures, SHEET_COLUMNS)

    def _save(self, name: str, pixels: np.ndarray) -> None:
        with self._record.atomic_path(self.files[name]) as path:
            Image.fromarray(pixels).save(path, format="PNG", compress_level=PNG_LEVEL)

    def _link(self) -> None:
        """Leave out objects in too few slices, and add the number of its object to each instance."""
        if (min_slices := self._detector.min_slices) > 1:
            short = in_short_objects({number: self._detections(number) for number in self._answers}, min_slices)
            for number, answer in self._answers.items():
                instances = zip(answer["instances"], short[number], strict=True)
                answer["instances"] = [instance for instance, left_out in instances if not left_out]
        objects = link_slices({number: self._detections(number) for number in self._answers})
        for number, answer in self._answers.items():
            # `_detections` are in the order of the answer, best score first.
            for instance, value in zip(answer["instances"], objects[number].tolist(), strict=True):
                instance["object"] = value

    def _write_objects(self) -> None:
        names, shape = self._detector.class_names, self._frames.shape
        assert shape is not None  # of a volume
        labels = np.zeros(shape, np.uint16)
        for number, answer in self._answers.items():
            objects = np.array([each["object"] for each in answer["instances"]], np.int64)
            labels[number] = to_label_map(self._detections(number), names, objects)
        self._write_on_grid("objects", self._frames.to_source(labels))

    def _write_nifti(self) -> None:
        names, shape = self._detector.class_names, self._frames.shape
        if names == REGIONS:
            labels = self._frames.to_source(label_map(self._regions(), self._codes()))
        else:
            assert shape is not None  # of a volume
            labels = np.zeros(shape, np.uint8)
            for number in self._answers:
                labels[number] = to_label_map(self._detections(number), names)
            labels = self._frames.to_source(labels)
        self._write_on_grid("nifti", labels)

    def _write_on_grid(self, name: str, labels: np.ndarray) -> None:
        """Write a label map on the grid of the source."""
        from mrcnn.data.io.nifti import write_label_map
        from mrcnn.data.io.volume_files import open_series

        with self._record.atomic_path(self.files[name]) as path:
            if self._item.kind == "series":
                grid = open_series(self._item.files)
                write_label_map(path, grid.to_stack(labels.transpose(2, 1, 0)), grid)
            else:
                write_label_map(path, labels, self._item.files[0])

    def _write_dicom_seg(self) -> None:
        from mrcnn.data.io.dicom_segmentation import write_dicom_seg

        with self._record.atomic_path(self.files["dicom_seg"]) as path:
            write_dicom_seg(
                path,
                self._item.files,
                self._source_regions(),
                self._detector.class_names,
                model_digest=self._detector.digest,
                version=version("medmrcnn"),
                keep_patient=self._keep_patient,
            )

    def _write_structure_set(self) -> None:
        from mrcnn.data.io.dicom_contours import write_structure_set

        with self._record.atomic_path(self.files["rtstruct"]) as path:
            write_structure_set(
                path,
                self._item.files,
                self._source_regions(),
                self._detector.class_names,
                version=version("medmrcnn"),
                keep_patient=self._keep_patient,
            )

    def _source_regions(self) -> np.ndarray:
        """Return `_regions` on the grid of the source."""
        return np.stack([self._frames.to_source(region) for region in self._regions()])

    def _regions(self) -> np.ndarray:
        """Return the union of the instances of each class: (K, slices, rows, columns) bool."""
        shape = self._frames.shape
        if shape is None:  # a single image
            (answer,) = self._answers.values()
            shape = (1, answer["height"], answer["width"])
        regions = np.zeros((len(self._detector.class_names), *shape), bool)
        for number in self._answers:
            found = self._detections(number)
            for class_id, crop in zip(found.class_ids, found.instances, strict=True):
                regions[class_id - 1, number][crop.slices] |= crop.pixels
        return regions

    def _codes(self) -> str:
        """Return the label codes of the training, or of the challenge that the name of the case belongs to."""
        return self._detector.label_codes or output_label_codes(self._item.source)
