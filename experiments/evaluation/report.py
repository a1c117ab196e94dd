"""Build the report of a training as one HTML page from the records of its run.

The page names no patients and files, because reports are shared: cases have the number of their row in `per_case.csv`.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from experiments.config.resolve import shareable
from experiments.evaluation.artifacts import notable
from experiments.evaluation.page import Term, embedded, render
from experiments.evaluation.report_external import error_pictures, external_parts
from experiments.evaluation.report_numbers import (
    Row,
    anonymize_warnings,
    patient_table,
    result_tables,
    suggestions,
    summary,
    term,
    training_charts,
)
from experiments.evaluation.robustness import ROBUSTNESS, robustness_rows
from experiments.evaluation.tables import ROBUSTNESS_COLUMNS, duration_text
from experiments.findings import SUMMARIES
from experiments.preparation.data_report import counts_table
from mrcnn.data.fingerprint import SplitSummary
from mrcnn.errors import counted
from mrcnn.metrics.operating_point import GRID
from mrcnn.safe_yaml import read_yaml
from trackers.offline.server import unreachable
from trackers.runs.address import hide_credentials
from trackers.runs.disk import disk_problem
from trackers.runs.environment import environment_facts
from trackers.runs.reader import EXTERNAL, OUT_OF_FOLD, VAL, RunRecord, artifacts, read_run, registered
from trackers.runs.run import Run

_log = logging.getLogger(__name__)

FILE, ENVIRONMENT = "report.html", "environment.json"
MAX_BYTES = 4_000_000
"""Maximum size of all pictures of a page as text."""
BASELINES = ("resunet", "classifier")
CASES_PER_KIND = 6
"""Maximum number of best, median and worst cases."""
EVALUATION = "evaluation.json"
"""Artifact of `mrcnn evaluate`."""
RECORDS = (ENVIRONMENT, EVALUATION, ROBUSTNESS, "config.yaml", "splits.json", "per_case.csv", "per_instance.csv",
           "findings.json", "figures", "overlays", "errors")  # fmt: skip
DATA_FIGURES = {
    "labels": "Where the instances of all splits are in their images, and how large their bounding boxes are",
    "augmented": "The first training images as augmented, with their annotations: could these be real images?",
}
KINDS = {
    "worst": "Failures: the lowest Dice",
    "median": "In the middle",
    "best": "The highest Dice",
}
FIGURES = {
    "precision_recall": "Precision over recall at mask IoU 0.5, each class",
    "froc": "FROC: share of instances found over false positives per image",
    "roc": "ROC of the classification of images",
    "reliability": "Calibration: observed frequency over predicted probability",
    "confidence": "Precision, recall and F1 over the confidence threshold",
    "confusion_matrix": "Confusion matrix at the confidence threshold: rows are the truth, columns the detections",
}


def log_report(run: Run) -> None:
    """Log `report.html` from the records of `run` so far, and `environment.json` of the machine.

    A failure is logged as a warning, because the model is not affected. There is no report while the tracking server is
    unreachable.
    """
    try:
        if not run.up_to_date():
            _log.warning("the tracking server is away: %s is not made", FILE)
            return
        recorded = read_run(run.id)
        run.json({**environment_facts(), "seconds": round(time.time() - recorded.started / 1000)}, ENVIRONMENT)
        run.text(report(recorded), FILE)
    except Exception as error:  # noqa: BLE001 the training has succeeded, whatever fails here
        said = "the tracking server is away" if unreachable(error) else disk_problem(error, run.folders)
        said = said or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        _log.warning("%s: %s is not made; the model is not affected", hide_credentials(said), FILE)


def report(run: RunRecord) -> str:
    """Return the HTML of the page. Sections without content, such as findings or volumes, are left out."""
    with artifacts(run.run_id, *RECORDS) as folder:
        config = read_yaml(_read(folder / "config.yaml")) or {}
        kept = json.loads(_read(folder / ENVIRONMENT) or "{}")
        cases, instances = (list(csv.DictReader(_read(folder / f"per_{each}.csv").splitlines()))
                            for each in ("case", "instance"))  # fmt: skip
        warnings = anonymize_warnings(
            run.profile.get("warnings", ()), json.loads(_read(folder / "splits.json") or "{}")
        )
        changed = json.loads(_read(folder / ROBUSTNESS) or "{}")
        figures = {file.stem: file for file in folder.glob("figures/*")}
        overlays = _overlays(folder, cases, config)
        external, errors = json.loads(_read(folder / EVALUATION) or "{}"), error_pictures(folder / "errors")
        limit = MAX_BYTES // max(len(figures) + sum(map(len, [*overlays.values(), *errors.values()])), 1)
        findings = config.get("findings", "none")
        epochs, best = run.metrics.get("epochs"), run.metrics.get("best_epoch")
        return render(
            "report.html",
            title=(
                f"{external['model']['title']} on {external['data']['name']}"
                if external
                else f"{run.tags.get('task', 'Training')}: {run.data_name}"
            ),
            subtitle=_subtitle(run),
            headline=_headline(run),
            summary=summary(run, instances, "nodules" if findings == "nodules" else "instances"),
            suggestions=[] if external else suggestions(run, warnings),
            external=external_parts(external, config.get("evaluate", {}).get("metric", "mask_ap50")),
            errors={title: [(embedded(file, max_bytes=limit), caption) for file, caption in shown]
                    for title, shown in errors.items()},
            split=_split_note(run),
            on_validation=run.split == VAL,
            results=result_tables(run, instances),
            threshold=_threshold(run, config, external),
            figures=_figures(figures, FIGURES, limit),
            data_figures=_figures(figures, DATA_FIGURES, limit),
            cases={KINDS[kind]: [(embedded(file, max_bytes=limit), caption) for file, caption in shown]
                   for kind, shown in overlays.items()},
            # The lowest Dice first; a dash comes after all digits.
            patients=sorted(patient_table(cases), key=lambda row: row[-1]) if external else patient_table(cases),
            findings=_findings(findings, json.loads(_read(folder / "findings.json") or "[]")),
            robustness={"headings": ROBUSTNESS_COLUMNS, "rows": robustness_rows(changed)} if changed else {},
            epochs=f"Epochs: {epochs:.0f}; the best was number {best:.0f}" if epochs and best else "",
            charts=training_charts(run),
            data=_data(run),
            synthetic=run.synthetic,
            warnings=warnings,
            commands=[] if external else _commands(run),
            facts=_facts(run, kept),
            configuration=_configuration(config),
        )  # fmt: skip


def _figures(files: Mapping[str, Path], captions: Mapping[str, str], limit: int) -> list[tuple[str, str]]:
    """Return the pictures and captions of the figures that exist."""
    return [(embedded(files[name], max_bytes=limit), caption) for name, caption in captions.items() if name in files]


def _subtitle(run: RunRecord) -> str:
    day = datetime.fromtimestamp(run.started / 1000, UTC)
    return f"{run.tags.get('modality', '')}, run {run.run_id}, {day:%Y-%m-%d %H:%M} UTC"


def _headline(run: RunRecord) -> list[tuple[Term, str, str]]:
    scores, shown = run.scores(), []
    chosen = run.params.get("evaluate.metric", "mask_ap50")
    for name in dict.fromkeys((chosen, "mask_ap50", "dice", "volume_dice", "f1", "auc", "accuracy")):
        if name in scores:
            ends = run.interval(name)
            below = f"95 %: {ends[0]:.3f} – {ends[1]:.3f}" if ends else "no interval"
            shown.append((term(name), f"{scores[name]:.3f}", below))
    return shown[:4]


def _data(run: RunRecord) -> dict[str, Any]:
    """Return table, notes and digests of the data; empty without a fingerprint."""
    profile = run.profile
    if "whole" not in profile:
        return {}
    summaries = {name: SplitSummary(**part) for name, part in {**profile["splits"], "all": profile["whole"]}.items()}
    headings, rows = counts_table(summaries, patients_named=profile.get("patients_named", True))
    sides, notes = profile.get("sides"), []
    if sides:
        notes.append(f"Side of an instance: median {sides['50%']:g} px, 5–95 %: {sides['5%']:g}–{sides['95%']:g}")
    notes.append("Each patient is in one split only; so are near-duplicate images, if they were searched.")
    alike = profile.get("duplicates")
    if alike and alike["groups"]:
        notes.append(f"Near-duplicates: {alike['images']} images in {counted(alike['groups'], 'group')}")
    digests = [(split, digest) for split, (_, digest) in run.data.items()]
    return {"headings": headings, "rows": rows, "notes": notes, "digests": digests}


def _split_note(run: RunRecord) -> str:
    scores, words = run.scores(), {"images": "Images", "patients": "patients", "instances": "instances"}
    if not run.profile.get("patients_named", True):
        del words["patients"]
    counts = ", ".join(f"{word}: {scores[name]:.0f}" for name, word in words.items() if name in scores)
    if run.split == OUT_OF_FOLD:
        return f"All folds, each image evaluated by the model that was not trained on its patient. {counts}."
    if run.split == EXTERNAL:
        return f"Images that the model was neither trained nor validated on. {counts}."
    if run.split != VAL:
        return f"The {run.split.replace('_', ' ')} split, evaluated once, after the training. {counts}."
    return (
        "The validation split, because there is no test split: the same images chose the best epoch and, where it is "
        f"chosen, the threshold, so these scores are better than those on new patients. {counts}."
    )


def _threshold(run: RunRecord, config: Mapping[str, Any], external: Mapping[str, Any]) -> str:
    if "confidence" not in run.metrics:
        return ""
    if external:
        told = "chosen anew on a part of this data set" if "recalibration" in external else "that of the model"
        return f"Detections count from a score of {run.metrics['confidence']:g}: {told}."
    folds = any(name.startswith(f"{OUT_OF_FOLD}/") for name in run.metrics)
    source = "given in the configuration, before the training"
    if "sweep" in run.tags:
        source = "found together with the NMS overlap by a search on the validation split, after the training"
    if config.get("evaluate", {}).get("confidence") == "auto":
        source = (
            f"the one of {GRID[0]:g}, {GRID[1]:g} … {GRID[-1]:g} with the highest mean of Dice and F1 on the "
            f"{'predictions of all folds' if folds else 'validation split'}"
        )
        if run.split not in (VAL, OUT_OF_FOLD):
            source += f"; the {run.split.replace('_', ' ')} split did not influence it"
    return f"Detections count from a score of {run.metrics['confidence']:g}: {source}."


def _findings(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarize the findings `name` of all images; those of one image belong to a patient."""
    if not found:
        return {}
    if name in SUMMARIES:
        rows = [(key.replace("_", " "), f"{value:.1%}" if "_rate_" in key else f"{value:g}")
                for key, value in SUMMARIES[name](found).items()]  # fmt: skip
        return {"notes": [], "headings": ["finding", "value"], "rows": rows}
    return _nodules(found) if name == "nodules" else {}


def _nodules(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    nodules = [nodule for image in found for nodule in image["nodules"]]
    notes = [f"Nodules: {len(nodules)} in {counted(len(found), 'image')}, at the confidence threshold"]
    sizes = [nodule["longest"] for nodule in nodules if nodule["longest"] is not None]
    # Images with and without a known pixel size can be in one split.
    units = {image["unit"] for image in found if image["nodules"]}
    if sizes and len(units) == 1:
        middle = f"median {median(sizes):.1f} {units.pop()}"
        notes.append(f"Longest diameter: {middle}, from {min(sizes):.1f} to {max(sizes):.1f}")
    levels = Counter(tuple(nodule["tirads"]["level"]) for nodule in nodules if (nodule["tirads"] or {}).get("level"))
    rows = [(low if low == high else f"{low} to {high}", str(count)) for (low, high), count in sorted(levels.items())]
    if rows:
        notes.append("A level is a range, because composition and echogenic foci need a reader.")
    return {"notes": notes, "headings": ["ACR TI-RADS", "nodules"], "rows": rows}


def _overlays(folder: Path, cases: Sequence[Row], config: Mapping[str, Any]) -> dict[str, list[tuple[Path, str]]]:
    """Return the pictures of each kind with their captions, in order of rank."""
    dice = [float(case["dice"]) if case.get("dice") else None for case in cases]
    chosen = notable(dice, config.get("evaluate", {}).get("overlays", 0))
    found: dict[str, list[tuple[int, Path, str]]] = {kind: [] for kind in KINDS}
    for file in folder.glob("overlays/*.png"):
        named = re.match(r"(worst|median|best)_(\d+)_dice_([\d.]+)_", file.name)
        if named and int(named[2]) <= min(CASES_PER_KIND, len(chosen[named[1]])):
            index = chosen[named[1]][int(named[2]) - 1]
            found[named[1]].append((int(named[2]), file, _caption(index, cases[index])))
    return {kind: [(file, told) for _, file, told in sorted(listed)] for kind, listed in found.items() if listed}


def _caption(index: int, case: Row) -> str:
    return (
        f"Case {index + 1}: Dice {float(case['dice']):.2f}; instances: {case['instances']}, "
        f"found {case['true_positives']}, missed {case['misses']}, false {case['false_positives']}"
    )


def _commands(run: RunRecord) -> list[str]:
    """Return the commands that repeat the training."""
    model, backend = run.tags.get("model"), run.tags.get("backend")
    command = f"mrcnn baselines --models {model}" if model in BASELINES else "mrcnn train"
    return [
        *([f"git checkout {run.commit.split()[0]}"] if run.commit else []),
        f"mlflow artifacts download --run-id {run.run_id} --artifact-path config.yaml --dst-path .",
        ("KERAS_BACKEND=jax " if backend == "jax" else "") + f"{command} --task config.yaml",
    ]


def _facts(run: RunRecord, kept: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a repetition needs to know: commit, seed, versions, machine."""
    rows = [
        ("commit", run.commit or "not a checkout"),
        ("seed", run.tags.get("seed", "")),
        ("backend", run.tags.get("backend", "")),
        ("initial weights", shareable(run.params.get("train.weights", ""))),
        ("run of the best trial", run.tags.get("best_run", "")),
        ("registered as", ", ".join(registered(run.run_id))),
        ("libraries", ", ".join(f"{name} {number}" for name, number in kept.get("libraries", {}).items())),
    ]
    if kept:
        rows += [
            ("machine", f"{kept['processor']}, {counted(kept['cores'], 'core')}, {kept['memory_gib']:g} GiB"),
            ("GPU", ", ".join(kept["gpus"]) or "none"),
            ("system", f"{kept['system']}, Python {kept['python']}"),
            ("duration until this report", duration_text(kept["seconds"])),
        ]
    return [row for row in rows if row[1]]


def _configuration(config: Mapping[str, Any]) -> str:
    """Format the configuration without paths of files and folders."""
    if not config:
        return ""
    return hide_credentials(yaml.safe_dump(_without_paths(config), sort_keys=False, allow_unicode=True))


def _without_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        # These are no paths, and may contain slashes.
        named = ("patient_pattern", "class_names")
        return {name: each if name in named else _without_paths(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    return shareable(value) if isinstance(value, str) else value


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
