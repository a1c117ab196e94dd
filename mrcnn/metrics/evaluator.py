"""Collect detections and truth image by image, and compute all scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from mrcnn.data.sample import Sample
from mrcnn.detections import Detections
from mrcnn.inference.linking import in_short_objects
from mrcnn.metrics import coco_ap
from mrcnn.metrics.calibration import expected_calibration_error, reliability
from mrcnn.metrics.case import Case, make_case, masks_of_class
from mrcnn.metrics.confusion import confusion_matrix
from mrcnn.metrics.froc import RATES, froc_curve, sensitivities
from mrcnn.metrics.intervals import Statistic, bootstrap_intervals, interval_bounds
from mrcnn.metrics.measurement import (
    Measurement,
    class_means,
    class_overlaps,
    mean_over_classes,
    measure,
    named_means,
)
from mrcnn.metrics.operating_point import (
    GRID,
    best_threshold,
    confidence_curves,
    operating_point,
)
from mrcnn.metrics.volumes import VolumeMeasurement, group_slices, measure_volumes, stack_masks
from mrcnn.rle import areas

_KINDS: Mapping[str, Literal["segm", "bbox"]] = {"mask": "segm", "box": "bbox"}
_AVERAGED = ("dice", "iou", "hd95", "hd95_mm")
CURVE_THRESHOLDS = np.linspace(0, 1, 101)
"""Confidence thresholds of `Evaluator.confidence_curves`."""


class Evaluator:
    """Compute scores of detections against truth.

    AP and FROC use all detections. Dice, IoU, HD95, precision, recall, F1 and detection rate use those with a score of
    at least the confidence. The modules `coco_ap`, `froc`, `measurement`, `operating_point` and `volumes` define each
    score, its averaging and the treatment of images without instances. Masks are stored as run lengths.

    Args:
        class_names: names of the class ids from 1.
        volumes: also compute scores of volumes; every image must be a slice of one.

    Example:
        Two images of a patient with one instance each; the second one is missed.

        >>> mask, ids = np.zeros((1, 6, 6), bool), np.array([1], np.int32)
        >>> mask[0, 1:3, 1:3] = True
        >>> found = Detections(np.array([[1, 1, 3, 3]], np.float32), np.array([0.9], np.float32), ids, mask)
        >>> evaluator = Evaluator(("iso",))
        >>> for name, detections in (("a.png", found), ("b.png", Detections.empty(6, 6))):
        ...     evaluator.add(Sample(np.zeros((6, 6, 1), np.uint8), mask, ids, "anna", name), detections)
        >>> scores = evaluator.summary(confidence=0.5)
        >>> {name: round(scores[name], 3) for name in ("mask_ap50", "dice", "precision", "recall", "froc")}
        {'mask_ap50': 0.505, 'dice': 0.5, 'precision': 1.0, 'recall': 0.5, 'froc': 0.5}
        >>> evaluator.best_confidence()
        0.45
        >>> [row["dice"] for row in evaluator.per_case(0.5)]
        [1.0, 0.0]
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
        """Combine the images of several evaluators of the same classes, such as folds of a cross-validation.

        Args:
            parts: at least one evaluator.
            confidences: confidence threshold of each part, which overrides the argument of methods, because each part
                may come from another model; None for none.
        """
        whole = cls(parts[0].class_names, volumes=parts[0]._volumes)
        for part, threshold in zip(parts, confidences or [None] * len(parts), strict=True):
            whole._cases += [replace(case, threshold=threshold) for case in part._cases]
        return whole

    def subset(self, indices: Sequence[int] | np.ndarray) -> Evaluator:
        """Return an evaluator of the images at `indices` only, such as those of one scanner."""
        part = Evaluator(self.class_names, volumes=self._volumes)
        part._cases = [self._cases[index] for index in indices]
        return part

    @property
    def cases(self) -> tuple[Case, ...]:
        """Truth and detections of each image, in the order added."""
        return tuple(self._cases)

    @property
    def patients(self) -> list[str]:
        """Patient of each image, in the order added."""
        return [case.patient_id for case in self._cases]

    @property
    def sources(self) -> list[str]:
        """Source of each image, in the order added."""
        return [case.source for case in self._cases]

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, sample: Sample, detections: Detections) -> None:
        """Add an image.

        Raises:
            InputError: the detections have another image size, or a class id has no class name.
        """
        self.add_case(make_case(sample, detections, len(self.class_names)))

    def add_case(self, case: Case) -> None:
        """Add an image that is a `Case` already."""
        self._cases.append(case)
        self._average_precision.clear()
        self._measured = self._measured_volumes = None

    def summary(self, confidence: float) -> dict[str, float]:
        """Compute all scores by name, without the prefix of a split; undefined scores are absent.

        `mask_ap`, `mask_ap10`, `mask_ap50`, `mask_ap75`, each also as `…/<class>`, `mask_ap_small|medium|large`, and
        the same with `box_`; `dice`, `iou`, `hd95`, `hd95_mm`, `precision`, `recall`, `f1`, each also as `…/<class>`;
        `detection_rate`; `froc`, the mean of `froc_0.125` … `froc_8`; `detection_ece`, the expected calibration error
        of the scores of all detections. Counts: `images`, `images_without_instances`, `patients`, `instances`,
        `detections`, `true_positives`, `false_positives`, `misses`; `dice_images/<class>` and `hd95_images/<class>`,
        images in those means; `hd95_mm_images`, images with a value in mm of any class; `hd95_skipped`, (image, class)
        pairs with exactly one of truth and prediction empty.

        With `volumes` also `volume_dice` and `volume_hd95` (mm), each also as `…/<class>`, and the counts `volumes` and
        `volume_hd95_skipped`.

        Raises:
            InputError: `volumes` is set and an image is not a slice (`volumes.group_slices`).
        """
        measured = self._measure(confidence)
        scores = {}
        for prefix in _KINDS:
            scores |= coco_ap.average_precisions(self._coco(prefix), self.class_names, prefix)
        once = np.ones((1, len(self)))
        defined = self._averages(measured, once) | self._frocs(once) | self._calibration(once)
        counts = self._counts(measured)
        if self._volumes:
            volumes = self._measure_volumes(confidence)
            defined |= self._volume_averages(volumes, np.ones((1, len(volumes.names))))
            counts |= {"volumes": len(volumes.names), "volume_hd95_skipped": volumes.skipped}
        scores |= {name: float(value[0]) for name, value in defined.items() if not np.isnan(value[0])}
        return scores | {name: float(value) for name, value in counts.items()}

    def without_short_objects(self, confidence: float, min_slices: int) -> Evaluator:
        """Return a copy without the objects of a volume that are found in fewer than `min_slices` slices.

        The detections of at least `confidence` are linked to objects (`mrcnn.inference.linking`).

        Raises:
            InputError: an image is not a slice (`volumes.group_slices`).
        """
        if min_slices == 1:
            return self
        short: dict[tuple[str, int], np.ndarray] = {}
        for name, slices in group_slices(self._cases).items():
            found = {case.place.index: case.detections(confidence) for case in slices if case.place is not None}
            short |= {(name, index): each for index, each in in_short_objects(found, min_slices).items()}
        part = Evaluator(self.class_names, volumes=self._volumes)
        for case in self._cases:
            assert case.place is not None  # a slice
            dropped = np.flatnonzero(short[case.place.volume, case.place.index])
            kept = np.setdiff1d(np.arange(len(case.scores)), dropped)
            part._cases.append(case.with_detections(kept) if len(dropped) else case)
        return part

    def best_operating_point(self, min_slices: Sequence[int]) -> tuple[float, int]:
        """Choose the confidence as `best_confidence`, together with one of `min_slices`.

        See `without_short_objects`. Of equal values the first of `min_slices` is chosen.
        """
        found = []
        for least in min_slices:
            if least == 1:
                values = self._agreement(GRID)
            else:
                changed = [self.without_short_objects(confidence, least) for confidence in GRID]
                pairs = zip(changed, GRID, strict=True)
                values = np.array([each._agreement([confidence])[0] for each, confidence in pairs])
            confidence = best_threshold(values)
            found.append((float(np.nan_to_num(values[GRID.index(confidence)])), confidence, least))
        _, confidence, least = max(found, key=lambda each: each[0])
        return confidence, least

    def best_confidence(self) -> float:
        """Choose the confidence of 0.05, 0.10 … 0.95 with the highest mean of Dice and F1; for validation images only.

        Dice alone is insensitive to small false positives beside a large instance, F1 alone to inaccurate outlines.
        0.5 without any detection or without any instance. Ties: see `operating_point.best_threshold`.
        """
        return self.best_operating_point([1])[0]

    def _agreement(self, thresholds: Sequence[float]) -> np.ndarray:
        """Compute the sum of Dice and F1 at each threshold (T,); NaN without any detection or without any instance."""
        cases, count = self._cases, len(self.class_names)
        if not any(len(case.truth) for case in cases) or not any(len(case.scores) for case in cases):
            return np.full(len(thresholds), np.nan)
        dice = np.full((len(thresholds), len(cases), count), np.nan)
        detections, hits = np.zeros(len(thresholds)), np.zeros(len(thresholds))
        for position, case in enumerate(cases):
            above = [case.count_above(confidence) for confidence in thresholds]
            overlaps = {number: class_overlaps(case, number, count)[:, 0] for number in set(above)}
            dice[:, position] = [overlaps[number] for number in above]
            detections += [(~case.ignored[:number]).sum() for number in above]
            hits += [(case.matched[:number] >= 0).sum() for number in above]
        once = np.ones((1, len(cases)))
        f1 = 2 * hits / (detections + sum(len(case.truth) for case in cases))
        return f1 + [mean_over_classes(class_means(values, once))[0] for values in dice]

    def intervals(self, confidence: float, resamples: int = 1000, seed: int = 0) -> dict[str, float]:
        """Compute 95 % bootstrap intervals over patients, `<name>_lo` and `<name>_hi`.

        For every score of `summary` that is not a count. Empty with fewer than two patients. See
        `intervals.bootstrap_intervals`.
        """
        if not self._cases:
            return {}
        found = bootstrap_intervals(self.statistic(confidence), self.patients, resamples, seed)
        if self._volumes:
            volumes = self._measure_volumes(confidence)
            found |= bootstrap_intervals(
                lambda weights: self._volume_averages(volumes, weights), volumes.patient_ids, resamples, seed
            )
        return interval_bounds(found)

    def statistic(self, confidence: float) -> Statistic:
        """Return the function from image weights (B, I) to scores (B,) by name that `intervals` resamples."""
        measured = self._measure(confidence)

        def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
            values = self._averages(measured, weights) | self._frocs(weights) | self._calibration(weights)
            for prefix in _KINDS:
                values |= coco_ap.resampled_average_precisions(self._coco(prefix), self.class_names, weights, prefix)
            return values

        return statistic

    def per_case(self, confidence: float) -> list[dict[str, Any]]:
        """Compute a row per image in the order added, all with the same keys; None where undefined.

        `source`, `patient_id`, `instances`, `detections`, `true_positives`, `false_positives`, `misses`; `dice`, `iou`,
        `hd95`, `hd95_mm`, means over the classes defined in the image, and `dice/<class>`.
        """
        measured = self._measure(confidence)
        rows = []
        for position, case in enumerate(self._cases):
            hits, false = (int(each[position].sum()) for each in (measured.true_positives, measured.false_positives))
            counts = {
                "source": case.source,
                "patient_id": case.patient_id,
                "instances": len(case.truth),
                "detections": hits + false,
                "true_positives": hits,
                "false_positives": false,
                "misses": int(measured.misses[position].sum()),
            }
            means = {name: float(mean_over_classes(getattr(measured, name)[position])) for name in _AVERAGED}
            means |= {f"dice/{name}": float(measured.dice[position, k]) for k, name in enumerate(self.class_names)}
            rows.append(counts | _nan_to_none(means))
        return rows

    def per_instance(self, confidence: float) -> list[dict[str, Any]]:
        """Compute a row per instance of the truth, all with the same keys.

        `image`, number of the image from 1; `class`; `area` in pixels; `diameter_mm` of the circle with the area of the
        instance, None without spacing; `found`, whether a detection with a score of at least `confidence` matches it.
        """
        rows = []
        for number, case in enumerate(self._cases, start=1):
            found = set(case.matched[: case.count_above(confidence)].tolist())
            pixel = None if case.spacing_mm is None else case.spacing_mm[0] * case.spacing_mm[1]
            sizes = areas(case.truth).tolist()
            for index, (class_id, area) in enumerate(zip(case.truth_classes.tolist(), sizes, strict=True)):
                diameter = None if pixel is None else 2 * float(np.sqrt(area * pixel / np.pi))
                rows.append(
                    {
                        "image": number,
                        "class": self.class_names[class_id - 1],
                        "area": area,
                        "diameter_mm": diameter,
                        "found": index in found,
                    }
                )
        return rows

    def per_volume(self, confidence: float) -> list[dict[str, Any]]:
        """Compute a row per volume, all with the same keys; None where undefined.

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
            rows.append({"volume": name, "patient_id": patient_id, "slices": slices} | _nan_to_none(values))
        return rows

    def predicted_regions(self, volume: str, confidence: float, shape: tuple[int, int, int]) -> np.ndarray:
        """Stack the union of each class's detections in a volume: (K, slices, rows, columns) bool."""
        slices = group_slices(self._cases)[volume]
        stacks = []
        for class_id in range(1, len(self.class_names) + 1):
            counted = ((case, case.count_above(confidence)) for case in slices)
            masks = [masks_of_class(case.predicted[:n], case.classes[:n], class_id) for case, n in counted]
            stacks.append(stack_masks(slices, masks, shape))
        return np.stack(stacks)

    def coco_ground_truth(self) -> dict[str, Any]:
        """Build the truth as a COCO data set for JSON."""
        return coco_ap.coco_ground_truth(self._cases, self.class_names)

    def coco_results(self) -> list[dict[str, Any]]:
        """Build all detections as COCO results for JSON; see `coco_ap.coco_results` to reproduce mask AP by size."""
        return coco_ap.coco_results(self._cases)

    def pr_curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Compute class → (recall, precision), each (101,), interpolated as in COCO, at mask IoU 0.5."""
        return coco_ap.precision_recall(self._coco("mask"), self.class_names)

    def froc_curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute false positives per image and sensitivity, both (P,), from (0, 0); empty without instances."""
        scores, hits, _ = self._pooled_detections()
        return froc_curve(scores, hits, len(self), sum(len(case.truth) for case in self._cases))

    def confidence_curves(self) -> dict[str, np.ndarray]:
        """Compute `threshold`, `precision`, `recall` and `f1`, (101,) each; see `operating_point.confidence_curves`."""
        scores, hits, _ = self._pooled_detections()
        instances = sum(len(case.truth) for case in self._cases)
        return {"threshold": CURVE_THRESHOLDS} | confidence_curves(scores, hits, instances, CURVE_THRESHOLDS)

    def reliability(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute mean score, precision and number of all detections by score; see `calibration.reliability`."""
        scores, hits, _ = self._pooled_detections()
        return reliability(hits, scores)

    def confusion_matrix(self, confidence: float) -> np.ndarray:
        """Compute the (K + 1, K + 1) confusion matrix; see `confusion.confusion_matrix`."""
        return confusion_matrix(self._cases, confidence, len(self.class_names))

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
        """Compute scores of volumes, (B,) by name, for rows of `weights` (B, V)."""
        return named_means("volume_dice", measured.dice, self.class_names, weights) | named_means(
            "volume_hd95", measured.hd95_mm, self.class_names, weights
        )

    def _pooled_detections(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Collect scores, hits and image index, (D,) each, of all detections that are not ignored."""
        empty = [np.zeros(0, np.float32)]
        scores = np.concatenate([case.scores[~case.ignored] for case in self._cases] or empty)
        matched = np.concatenate([case.matched[~case.ignored] for case in self._cases] or empty)
        image = np.repeat(np.arange(len(self)), [(~case.ignored).sum() for case in self._cases])
        return scores, matched >= 0, image

    def _averages(self, measured: Measurement, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the scores at the confidence threshold, (B,) by name, for rows of `weights` (B, I)."""
        hits, false, missed = measured.true_positives, measured.false_positives, measured.misses
        values = operating_point(hits.sum(axis=1), false.sum(axis=1), missed.sum(axis=1), weights)
        for position, class_name in enumerate(self.class_names):
            of_class = operating_point(hits[:, position], false[:, position], missed[:, position], weights)
            values |= {f"{name}/{class_name}": of_class[name] for name in ("precision", "recall", "f1")}
        for name in _AVERAGED:
            values |= named_means(name, getattr(measured, name), self.class_names, weights)
        return values

    def _frocs(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        instances = np.array([len(case.truth) for case in self._cases], np.int64)
        at_rates = sensitivities(*self._pooled_detections(), instances, weights)
        return {"froc": at_rates.mean(axis=1)} | {
            f"froc_{rate:g}": at_rates[:, position] for position, rate in enumerate(RATES)
        }

    def _calibration(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        scores, hits, image = self._pooled_detections()
        return {"detection_ece": expected_calibration_error(hits, scores, weights[:, image])}

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


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else value for name, value in values.items()}
