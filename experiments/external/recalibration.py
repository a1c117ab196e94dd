"""Choose the threshold of a model anew on a part of another site's patients, and register the result as a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.config.schema import TaskConfig
from experiments.evaluation.evaluate import evaluate
from experiments.external.opened_model import CALIBRATION, SPLITS, OpenedModel
from experiments.findings import FINDINGS
from mrcnn.data import Dataset, split_by_patient
from mrcnn.errors import InputError, counted
from mrcnn.inference.ensemble import Predictor
from trackers.packaging.packaged import log_packaged_model
from trackers.registry.registry import delete_version, register_recalibrated
from trackers.runs.run import Run


@dataclass(frozen=True)
class Recalibration:
    """A threshold that was chosen on a part of the patients.

    Attributes:
        confidence: the new threshold.
        before: the threshold of the model.
        calibration: positions of the images that chose it.
        measured: positions of the other images.
        patients: number of patients that chose it.
        digest: of the images that chose it.
    """

    confidence: float
    before: float
    calibration: np.ndarray
    measured: np.ndarray
    patients: int
    digest: str

    def facts(self, scores_before: Mapping[str, float]) -> dict[str, Any]:
        """Return the numbers for JSON, with the scores of the measured images at the threshold of the model."""
        return {
            "confidence_before": self.before,
            "confidence": self.confidence,
            "patients": self.patients,
            "images": len(self.calibration),
            "digest": self.digest,
            "scores_before": dict(scores_before),
        }


def recalibrate(
    predictor: Predictor, images: Dataset, share: float, before: float, config: TaskConfig
) -> Recalibration:
    """Choose the threshold with the highest mean of Dice and F1 on `share` of the patients.

    Raises:
        InputError: there are fewer than two patients, or the chosen patients have no instance.
    """
    splits = split_by_patient(images, train=share, val=0.0, test=1 - share, seed=config.split_seed)
    chosen = images.subset(splits["train"])
    if not any(len(record.class_ids) for record in chosen.records):
        raise InputError(f"--recalibrate {share:g}: the chosen patients have no instance; expected a larger share")
    found = evaluate(predictor, chosen, batch_size=config.evaluate.images_at_once)
    patients = len({record.patient_id for record in chosen.records})
    return Recalibration(found.best_confidence(), before, splits["train"], splits["test"], patients, chosen.digest)


def register_version(model: OpenedModel, found: Recalibration, images: Dataset, name: str, run: Run) -> str:
    """Register the model with the new threshold as a version of the same registered model; return its number.

    No alias moves. The version is deleted if `run` does not end FINISHED. `images` are all of the site, `name` is its
    name.
    """
    chosen = images.subset(found.calibration)
    # A later evaluation of the version leaves these images out.
    run.json(
        {
            CALIBRATION: [
                {"file_name": each.file_name, "patient_id": each.patient_id, "sha256": each.content_digest()}
                for each in chosen.records
            ]
        },
        SPLITS,
    )
    run.require_server("the model is not registered")
    tracked, config = model.tracked, model.config
    findings = "none" if config is None else config.findings
    uri = log_packaged_model(
        run,
        tracked.files,
        confidence=found.confidence,
        class_names=model.predictor.config.class_names,
        config=dict(tracked.config or {}),
        sample_image=chosen.image(0, model.predictor.config.context_slices),
        findings=FINDINGS[findings] if findings != "none" else None,
        flips=tracked.flips,
        mirrored_ids=tracked.mirrored_ids,
        fingerprint=tracked.fingerprint,
    )
    registered, source = str(model.name), str(model.version)
    version = register_recalibrated(
        uri, registered, source, training_run=str(model.run_id), run_id=run.id, digest=found.digest,
        note=f"threshold {found.confidence:g} in place of {found.before:g}, chosen on "
        f"{counted(len(chosen), 'image')} of {counted(found.patients, 'patient')} of {name}",
    )  # fmt: skip
    run.unless_finished(lambda: delete_version(registered, version))
    run.tags({"registered_version": f"{registered} version {version}"})
    return version
