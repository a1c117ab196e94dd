"""An item's own files: JSON, pictures, label maps, DICOM segmentations."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image

from experiments.prediction.answers import answer_of, detections_of, of_several
from experiments.prediction.detector import Detector
from experiments.prediction.frames import Frames
from experiments.prediction.inputs import STACKS, Item
from experiments.prediction.pictures import PICTURES, sheet
from experiments.prediction.progress_record import ProgressRecord
from mrcnn.data.readers.brats_cases import REGIONS, label_map, output_label_codes
from mrcnn.detections import Detections
from mrcnn.inference.label_map import to_label_map
from trackers.runs.serialization import json_text

_SUFFIX = {"json": ".json", "mask": ".png", "nifti": ".nii.gz", "dicom_seg": ".dcm"}


class ItemWriter:
    """Takes an item's frames one after the other, and writes its files; a context manager.

    Args:
        forms: of `experiments.prediction.answers.own_forms`.
        keep_patient: see `mrcnn.data.io.dicom_segmentation.write_dicom_seg`.

    Attributes:
        files: form → path in the folder, of what is written when the body is through.
    """

    def __init__(
        self,
        item: Item,
        frames: Frames,
        detector: Detector,
        forms: frozenset[str],
        record: ProgressRecord,
        keep_patient: bool = False,
    ) -> None:
        self._keep_patient = keep_patient
        self._item, self._frames, self._detector, self._record = item, frames, detector, record
        self._forms = forms
        self._answers: dict[int, dict[str, Any]] = {}
        self._videos: dict[str, Any] = {}
        self._open = ExitStack()
        self.files: dict[str, str] = {form: f"{form}/{item.name}{self._suffix(form)}" for form in sorted(forms)}

    def __enter__(self) -> ItemWriter:
        if self._item.kind == "video":
            from mrcnn.data.io.video import VideoWriter

            with ExitStack() as opening:
                for form in self._forms & PICTURES.keys():
                    path = opening.enter_context(self._record.place(self.files[form]))
                    self._videos[form] = opening.enter_context(VideoWriter(path, self._frames.rate))
                self._open = opening.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def add(self, number: int, image: np.ndarray, found: Detections, findings: Mapping[str, Any]) -> None:
        """Takes a frame with what was found in it."""
        names = self._detector.class_names
        self._answers[number] = answer_of(found, names, findings)
        for form, video in self._videos.items():
            video.write(PICTURES[form](image, found, names))
        if self._item.kind in STACKS or self._item.kind == "video":
            return
        for form in self._forms & PICTURES.keys():
            self._save(form, PICTURES[form](image, found, names))
        if "mask" in self._forms:
            self._save("mask", to_label_map(found, names))

    def finish(self) -> None:
        """Writes what needs all frames, the JSON last."""
        if self._item.kind in STACKS:
            for form in sorted(self._forms & PICTURES.keys()):
                counts = {number: len(answer["instances"]) for number, answer in self._answers.items()}
                if counts:
                    self._save(form, sheet(form, counts, self._frame, self._detector.class_names))
                else:  # a volume that is empty from end to end
                    self.files.pop(form)
        if "nifti" in self._forms:
            self._write_nifti()
        if "dicom_seg" in self._forms:
            self._write_dicom_seg()
        single = self._item.kind in ("image", "dicom")
        written = self._answers[0] if single else of_several(self._answers)
        self._record.write(self.files["json"], json_text(written))

    def _suffix(self, form: str) -> str:
        if form in PICTURES:
            return ".mp4" if self._item.kind == "video" else ".png"
        return _SUFFIX[form]

    def _found(self, number: int) -> Detections:
        return detections_of(self._answers[number], self._detector.class_names)

    def _frame(self, number: int) -> tuple[np.ndarray, Detections]:
        return self._frames.read(number), self._found(number)

    def _save(self, form: str, pixels: np.ndarray) -> None:
        with self._record.place(self.files[form]) as path:
            Image.fromarray(pixels).save(path, format="PNG")

    def _write_nifti(self) -> None:
        from mrcnn.data.io.nifti import write_label_map

        names, shape = self._detector.class_names, self._frames.shape
        if names == REGIONS:
            labels = label_map(self._regions(), self._codes())
        else:
            labels = np.zeros(shape, np.uint8)
            for number in self._answers:
                labels[number] = to_label_map(self._found(number), names)
        with self._record.place(self.files["nifti"]) as path:
            write_label_map(path, labels, self._item.files[0])

    def _write_dicom_seg(self) -> None:
        from mrcnn.data.io.dicom_segmentation import write_dicom_seg

        with self._record.place(self.files["dicom_seg"]) as path:
            write_dicom_seg(
                path,
                self._item.files,
                self._regions(),
                self._detector.class_names,
                model_digest=self._detector.digest,
                version=version("medmrcnn"),
                keep_patient=self._keep_patient,
            )

    def _regions(self) -> np.ndarray:
        """(K, slices, rows, columns) bool: of each class the union of its instances."""
        first = next(iter(self._answers.values()), None)
        shape = self._frames.shape or (1, first["height"], first["width"])
        regions = np.zeros((len(self._detector.class_names), *shape), bool)
        for number in self._answers:
            found = self._found(number)
            for class_id, crop in zip(found.class_ids, found.instances, strict=True):
                regions[class_id - 1, number][crop.slices] |= crop.pixels
        return regions

    def _codes(self) -> str:
        """Those of the training, or those of the challenge that named the case."""
        return self._detector.label_codes or output_label_codes(self._item.source)
