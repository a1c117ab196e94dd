"""Every score of a set of images, gathered one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.metrics import coco_ap
from mrcnn.metrics import coco_ap as coco_form
from mrcnn.metrics import intervals as bootstrap
from mrcnn.metrics.case import Case, make_case
from mrcnn.metrics.coco_ap import resampled_average_precisions
from mrcnn.metrics.froc import RATES, froc_curve, sensitivities
from mrcnn.metrics.measurement import Measurement, class_means, mean_over_classes, measure, overlaps_of
from mrcnn.metrics.operating_point import GRID, UNDECIDED, best_threshold, operating_point
from mrcnn.metrics.volumes import VolumeMeasurement, by_volume, measure_volumes, predicted_masks, stack_of

_KINDS = {"mask": "segm", "box": "bbox"}
_AVERAGED = ("dice", "iou", "hd95", "hd95_mm")


class Evaluator:
    """Scores of detections against truth.

    AP and FROC use every detection given; Dice, IoU, HD95, precision, recall, F1 and detection rate those with a score
    of at least the confidence. What is left out of which mean is said in `measurement`, `operating_point`, `froc` and
    `coco_ap`. Memory grows by the run lengths of the masks only.

        evaluator = Evaluator(("iso", "hypo"))
        for sample, detections in ...:
            evaluator.add(sample, detections)
        evaluator.summary(confidence=0.5)["mask_ap50"]

    Args:
        class_names: class id 1 is the first.
        volumes: the images are slices, and scores of the volumes that they make up (`volumes`) are wanted too.
    """

    def __init__(self, class_names: Sequence[str], *, volumes: bool = False) -> None:
        self.class_names = tuple(class_names)
        self._volumes = volumes
        self._cases: list[Case] = []
        self._average_precision: dict[str, coco_ap.CocoScores] = {}
        self._measured: tuple[float, Measurement] | None = None
        self._measured_volumes: tuple[float, VolumeMeasurement] | None = None

    @classmethod
    def pooled(cls, parts: Sequence[Evaluator], confidences: Sequence[float] | None = None) -> Evaluator:
        """All images of several evaluators of the same classes, such as the folds of a cross-validation, as one set.

        Args:
            confidences: for each part the working threshold of its images, which then goes before the one that a method
                is given, since each part may come from a model of its own; None for none.
        """
        whole = cls(parts[0].class_names, volumes=parts[0]._volumes)
        for part, threshold in zip(parts, confidences or [None] * len(parts), strict=True):
            whole._cases += [replace(case, threshold=threshold) for case in part._cases]
        return whole

    @property
    def patients(self) -> list[str]:
        """Whom each image shows, in the order added."""
        return [case.patient_id for case in self._cases]

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, sample: Sample, detections: Detections) -> None:
        """Take in one image.

        Raises:
            InputError: detections of another image size, or class ids beyond the class names.
        """
        self.add_case(make_case(sample, detections, len(self.class_names)))

    def add_case(self, case: Case) -> None:
        """Take in an image that was made a case before, as where detections are chosen anew among kept ones."""
        self._cases.append(case)
        self._average_precision.clear()
        self._measured = self._measured_volumes = None

    def summary(self, confidence: float) -> dict[str, float]:
        """All scores by name, without a split's prefix; undefined ones are absent.

        `mask_ap`, `mask_ap10`, `mask_ap50`, `mask_ap75`, each also as `…/<class>`, `mask_ap_small|medium|large`, and
        the same with `box_`; `dice`, `iou`, `hd95`, `hd95_mm`, each also as `…/<class>`; `precision`, `recall`, `f1`,
        `detection_rate`; `froc`, the mean of `froc_0.125` … `froc_8`. Counts: `images`, `images_without_instances`,
        `patients`, `instances`, `detections`, `true_positives`, `false_positives`, `misses`; `dice_images/<class>` and
        `hd95_images/<class>`, images in those means; `hd95_mm_images`, those with a value in mm of any class;
        `hd95_skipped`, (image, class) pairs where truth or prediction, not both, is empty.

        With `volumes` also `volume_dice` and `volume_hd95` (mm), each also as `…/<class>`, and the counts `volumes` and
        `volume_hd95_skipped`.

        Raises:
            InputError: `volumes`, and an image is no slice of one (`volumes.by_volume`).
        """
        measured = self._measure(confidence)
        scores = {}
        for prefix in _KINDS:
            scores |= coco_ap.average_precisions(self._coco(prefix), self.class_names, prefix)
        once = np.ones((1, len(self)))
        defined = self._averages(measured, once) | self._frocs(once)
        counts = self._counts(measured)
        if self._volumes:
            volumes = self._measure_volumes(confidence)
            defined |= self._volume_averages(volumes, np.ones((1, len(volumes.names))))
            counts |= {"volumes": len(volumes.names), "volume_hd95_skipped": volumes.skipped}
        scores |= {name: float(value[0]) for name, value in defined.items() if not np.isnan(value[0])}
        return scores | {name: float(value) for name, value in counts.items()}

    def best_confidence(self) -> float:
        """The confidence of 0.05, 0.10 … 0.95 with the highest mean of Dice and F1; for validation images only.

        Dice alone hardly minds small false instances beside a large true one, F1 alone hardly minds poor outlines.
        0.5 without any detection or without any instance. Equal ones: see `confidence.middle_of_best`.
        """
        cases, count = self._cases, len(self.class_names)
        if not any(len(case.truth) for case in cases) or not any(len(case.scores) for case in cases):
            return UNDECIDED
        dice = np.full((len(GRID), len(cases), count), np.nan)
        detections, hits = np.zeros(len(GRID)), np.zeros(len(GRID))
        for position, case in enumerate(cases):
            shown = [case.shown(confidence) for confidence in GRID]
            of_shown = {number: overlaps_of(case, number, count)[:, 0] for number in set(shown)}
            dice[:, position] = [of_shown[number] for number in shown]
            detections += [(~case.ignored[:number]).sum() for number in shown]
            hits += [(case.matched[:number] >= 0).sum() for number in shown]
        once = np.ones((1, len(cases)))
        f1 = 2 * hits / (detections + sum(len(case.truth) for case in cases))
        return best_threshold(f1 + [mean_over_classes(class_means(values, once))[0] for values in dice])

    def intervals(self, confidence: float, resamples: int = 1000, seed: int = 0) -> dict[str, float]:
        """95 % bootstrap intervals over patients, `<name>_lo` and `<name>_hi`; none with fewer than two patients.

        Of the AP over all classes and sizes, Dice, IoU and HD95 with their classes, precision, recall, F1, detection
        rate, `froc`, and the scores of volumes. `resamples` goes for all of them.
        """
        if not self._cases:
            return {}
        found = bootstrap.bootstrap_intervals(self.statistic(confidence), self.patients, resamples, seed)
        if self._volumes:
            volumes = self._measure_volumes(confidence)
            found |= bootstrap.bootstrap_intervals(
                lambda weights: self._volume_averages(volumes, weights), volumes.patient_ids, resamples, seed
            )
        low = {f"{name}_lo": pair[0] for name, pair in found.items()}
        return low | {f"{name}_hi": pair[1] for name, pair in found.items()}

    def statistic(self, confidence: float) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
        """What `intervals` resamples of images: from weights (B, I) to scores (B,) by name."""
        measured = self._measure(confidence)

        def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
            values = self._averages(measured, weights) | {"froc": self._frocs(weights)["froc"]}
            for prefix in _KINDS:
                values |= resampled_average_precisions(self._coco(prefix), weights, prefix)
            return values

        return statistic

    def per_case(self, confidence: float) -> list[dict[str, Any]]:
        """A row for each image in the order added, all with the same keys; None where undefined.

        `source`, `patient_id`, `instances`, `detections`, `true_positives`, `false_positives`, `misses`; `dice`, `iou`,
        `hd95`, `hd95_mm`, means over the classes defined in the image, and `dice/<class>`.
        """
        measured = self._measure(confidence)
        rows = []
        for position, case in enumerate(self._cases):
            hits, false = int(measured.true_positives[position]), int(measured.false_positives[position])
            row: dict[str, Any] = {
                "source": case.source,
                "patient_id": case.patient_id,
                "instances": len(case.truth),
                "detections": hits + false,
                "true_positives": hits,
                "false_positives": false,
                "misses": int(measured.misses[position]),
            }
            means = {name: float(mean_over_classes(getattr(measured, name)[position])) for name in _AVERAGED}
            means |= {f"dice/{name}": float(measured.dice[position, k]) for k, name in enumerate(self.class_names)}
            rows.append(row | {name: None if np.isnan(value) else value for name, value in means.items()})
        return rows

    def per_volume(self, confidence: float) -> list[dict[str, Any]]:
        """A row for each volume, all with the same keys; None where undefined.

        `volume`, `patient_id`, `slices`; `dice`, `hd95_mm`, means over the classes defined in it, and both of each
        class as `…/<class>`.
        """
        volumes = self._measure_volumes(confidence)
        rows = []
        for position, (name, patient_id, slices) in enumerate(
            zip(volumes.names, volumes.patient_ids, volumes.slices, strict=True)
        ):
            values = {}
            for score in ("dice", "hd95_mm"):
                of_classes = getattr(volumes, score)[position]
                values[score] = float(mean_over_classes(of_classes))
                values |= {f"{score}/{each}": float(of_classes[k]) for k, each in enumerate(self.class_names)}
            row = {"volume": name, "patient_id": patient_id, "slices": slices}
            rows.append(row | {name: None if np.isnan(value) else value for name, value in values.items()})
        return rows

    def predicted_regions(self, volume: str, confidence: float, shape: tuple[int, int, int]) -> np.ndarray:
        """(K, slices, rows, columns) bool: for each class the union of its detections in the slices of a volume."""
        slices = by_volume(self._cases)[volume]
        return np.stack(
            [
                stack_of(slices, [predicted_masks(case, confidence, class_id) for case in slices], shape)
                for class_id in range(1, len(self.class_names) + 1)
            ]
        )

    def coco_ground_truth(self) -> dict[str, Any]:
        """The truth as a COCO data set, ready for JSON."""
        return coco_form.coco_ground_truth(self._cases, self.class_names)

    def coco_results(self) -> list[dict[str, Any]]:
        """All detections as COCO results, ready for JSON; see `coco_form.results` for repeating mask AP by size."""
        return coco_form.coco_results(self._cases)

    def pr_curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Class → (recall, precision), each (101,), interpolated as COCO does, at mask IoU .5; classes with truth."""
        return coco_ap.precision_recall(self._coco("mask"), self.class_names)

    def froc_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """False positives an image and sensitivity, both (P,), from (0, 0) on; empty without instances."""
        scores, hits, _ = self._pooled()
        return froc_curve(scores, hits, len(self), sum(len(case.truth) for case in self._cases))

    def _coco(self, prefix: str) -> coco_ap.CocoScores:
        if not self._average_precision:
            truth, results = self.coco_ground_truth(), self.coco_results()
            for name, kind in _KINDS.items():
                self._average_precision[name] = coco_ap.evaluate(truth, results, kind)
        return self._average_precision[prefix]

    def _measure(self, confidence: float) -> Measurement:
        if self._measured is None or self._measured[0] != confidence:
            self._measured = (confidence, measure(self._cases, float(confidence), len(self.class_names)))
        return self._measured[1]

    def _measure_volumes(self, confidence: float) -> VolumeMeasurement:
        if self._measured_volumes is None or self._measured_volumes[0] != confidence:
            measured = measure_volumes(self._cases, float(confidence), len(self.class_names))
            self._measured_volumes = (confidence, measured)
        return self._measured_volumes[1]

    def _volume_averages(self, measured: VolumeMeasurement, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of volumes, (B,) by name, once for each row of `weights` (B, V)."""
        values = {}
        for name, of_each in (("volume_dice", measured.dice), ("volume_hd95", measured.hd95_mm)):
            means = class_means(of_each, weights)
            values[name] = mean_over_classes(means)
            values |= {f"{name}/{each}": means[:, position] for position, each in enumerate(self.class_names)}
        return values

    def _pooled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, hits and position of the image, (D,) each, of all detections of all images that lie in no crowd."""
        empty = [np.zeros(0, np.float32)]
        scores = np.concatenate([case.scores[~case.ignored] for case in self._cases] or empty)
        matched = np.concatenate([case.matched[~case.ignored] for case in self._cases] or empty)
        image = np.repeat(np.arange(len(self)), [(~case.ignored).sum() for case in self._cases])
        return scores, matched >= 0, image

    def _averages(self, measured: Measurement, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Everything at the working threshold, (B,) by name, once for each row of `weights` (B, I)."""
        values = operating_point(measured.true_positives, measured.false_positives, measured.misses, weights)
        for name in _AVERAGED:
            means = class_means(getattr(measured, name), weights)
            values[name] = mean_over_classes(means)
            values |= {f"{name}/{each}": means[:, position] for position, each in enumerate(self.class_names)}
        return values

    def _frocs(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        instances = np.array([len(case.truth) for case in self._cases], np.int64)
        at_rates = sensitivities(*self._pooled(), instances, weights)
        return {"froc": at_rates.mean(axis=1)} | {
            f"froc_{rate:g}": at_rates[:, position] for position, rate in enumerate(RATES)
        }

    def _counts(self, measured: Measurement) -> dict[str, int]:
        counts = {
            "images": len(self),
            "images_without_instances": sum(not case.truth for case in self._cases),
            "patients": len({case.patient_id for case in self._cases}),
            "instances": sum(len(case.truth) for case in self._cases),
            "detections": int((measured.true_positives + measured.false_positives).sum()),
            "true_positives": int(measured.true_positives.sum()),
            "false_positives": int(measured.false_positives.sum()),
            "misses": int(measured.misses.sum()),
            "hd95_skipped": measured.skipped,
            "hd95_mm_images": int((~np.isnan(measured.hd95_mm)).any(axis=1).sum()),
        }
        for position, name in enumerate(self.class_names):
            counts[f"dice_images/{name}"] = int((~np.isnan(measured.dice[:, position])).sum())
            counts[f"hd95_images/{name}"] = int((~np.isnan(measured.hd95[:, position])).sum())
        return counts
