"""The report of a finished training as one page, made of what the run has recorded.

Patients and files are not named, for a report is passed on: cases go by their row in the run's `per_case.csv`.
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

from experiments.evaluation.artifacts import notable
from experiments.evaluation.page import (
    NOTICE,
    bullets,
    embedded,
    facts,
    figure,
    page,
    paragraph,
    section,
    table,
    text,
)
from experiments.evaluation.report_numbers import anonymize_warnings, results, training
from experiments.evaluation.tables import IMAGE_ROWS, ROWS
from experiments.findings import SUMMARIES
from experiments.preparation.data_report import counts_table
from experiments.training.folds import OUT_OF_FOLD
from mrcnn.data.fingerprint import SplitSummary
from mrcnn.metrics.operating_point import GRID
from mrcnn.safe_yaml import read_yaml
from trackers.offline.server import unreachable
from trackers.runs.address import hide_credentials
from trackers.runs.disk import disk_problem
from trackers.runs.environment import environment_facts
from trackers.runs.reader import VAL, RunRecord, artifacts, read_run, registered
from trackers.runs.run import Run

_log = logging.getLogger(__name__)

FILE, ENVIRONMENT = "report.html", "environment.json"
MOST_BYTES = 4_000_000
"""Of all pictures of a page, as text."""
SYNTHETIC = "These images are phantoms, made by a program: results on them say nothing about patients."
BASELINES = ("resunet", "classifier")
OF_EACH_KIND = 6
"""Best, median and worst cases shown."""
READ = (ENVIRONMENT, "config.yaml", "splits.json", "per_case.csv", "findings.json", "figures", "overlays")
KINDS = {
    "worst": "Failures: the lowest Dice",
    "median": "In the middle",
    "best": "The highest Dice",
}
FIGURES = {
    "precision_recall": "Precision over recall at mask IoU 0.5, each class",
    "froc": "FROC: share of instances found over false positives per image",
    "roc": "ROC of telling images apart",
    "reliability": "Calibration: how often what was given a probability came true",
}


def log_report(run: Run) -> None:
    """Log `report.html` of what `run` has recorded so far, and `environment.json` of the machine.

    A report is worth no model: where it cannot be made, a warning says why, and the run goes on. It is made of what the
    store has, so there is none while the tracking server is away.
    """
    try:
        if not run.up_to_date():
            _log.warning("the tracking server is away: %s is not made", FILE)
            return
        recorded = read_run(run.id)
        run.json({**environment_facts(), "seconds": round(time.time() - recorded.started / 1000)}, ENVIRONMENT)
        run.text(report(recorded), FILE)
    except Exception as error:  # noqa: BLE001 whatever it is, the model is there
        said = "the tracking server is away" if unreachable(error) else disk_problem(error, run.folders)
        said = said or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        _log.warning("%s: %s is not made; the model is not affected", hide_credentials(said), FILE)


def report(run: RunRecord) -> str:
    """The page. What a run lacks, such as a test split, volumes or any detection, is left out or said."""
    with artifacts(run.run_id, *READ) as folder:
        config = read_yaml(_read(folder / "config.yaml")) or {}
        kept = json.loads(_read(folder / ENVIRONMENT) or "{}")
        cases = list(csv.DictReader(_read(folder / "per_case.csv").splitlines()))
        warnings = anonymize_warnings(
            run.profile.get("warnings", ()), json.loads(_read(folder / "splits.json") or "{}")
        )
        figures, overlays = sorted(folder.glob("figures/*.png")), _overlays(folder, cases, config)
        share = MOST_BYTES // max(len(figures) + sum(map(len, overlays.values())), 1)
        parts = {
            "data": ("Data", _data(run, warnings)),
            "training": ("Training", training(run)),
            "results": ("Results", _split_words(run) + results(run)),
            "threshold": ("Working threshold", _threshold(run, config)),
            "figures": ("Curves of the results", _figures(figures, share)),
            "findings": (
                "Findings",
                _findings(config.get("findings", "none"), json.loads(_read(folder / "findings.json") or "[]")),
            ),
            "cases": ("Cases, failures first", _cases(overlays, share)),
            "repeat": ("How to repeat it", _repeat(run, kept)),
            "configuration": ("Configuration", _configuration(config)),
        }
    sections = {name: section(name, title, inner) for name, (title, inner) in parts.items()}
    links = " ".join(f'<a href="#{name}">{parts[name][0]}</a>' for name, whole in sections.items() if whole)
    title = f"{run.tags.get('task', 'Training')}: {run.data_name}"
    return page(title, [_head(run, title), f"<nav>{links}</nav>", *sections.values()])


def _head(run: RunRecord, title: str) -> str:
    day = datetime.fromtimestamp(run.started / 1000, UTC)
    chosen = run.params.get("evaluate.metric", "mask_ap50")
    words = [f"{run.tags.get('modality', '')}, run {run.run_id}", f"{day:%Y-%m-%d %H:%M} UTC"]
    return (
        f'<h1>{text(title)}</h1><p><span class="notice">{NOTICE}</span></p>'
        f'<p class="soft">{text(", ".join(words))}</p>' + facts(_headline(run, chosen))
    )


def _headline(run: RunRecord, chosen: str) -> list[tuple[str, str, str]]:
    scores, shown = run.scores(), []
    for name in dict.fromkeys((chosen, "mask_ap50", "dice", "volume_dice", "f1", "auc", "accuracy")):
        if name in scores:
            ends = run.interval(name)
            below = f"95 %: {ends[0]:.3f} – {ends[1]:.3f}" if ends else "no interval"
            shown.append(((ROWS | IMAGE_ROWS).get(name, name), f"{scores[name]:.3f}", below))
    return shown[:4]


def _data(run: RunRecord, warnings: Sequence[str]) -> str:
    profile = run.profile
    if "whole" not in profile:
        return ""
    counted = {name: SplitSummary(**part) for name, part in {**profile["splits"], "all": profile["whole"]}.items()}
    sides, told = profile.get("sides"), []
    if sides:
        told.append(f"Side of an instance: {sides['50%']:g} px in the median, 5–95 %: {sides['5%']:g}–{sides['95%']:g}")
    told.append("Patients are in one split each; so are images that are nearly the same, where they were looked for.")
    alike = profile.get("duplicates")
    if alike and alike["groups"]:
        told.append(f"Nearly the same: {alike['images']} images in {alike['groups']} groups")
    digests = [(split, digest) for split, (_, digest) in run.data.items()]
    synthetic = f'<p class="bad">{text(SYNTHETIC)}</p>' if run.synthetic else ""
    return (
        synthetic
        + counts_table(counted)
        + bullets(told)
        + ("<h3>Warnings of the check</h3>" + bullets(warnings) if warnings else paragraph("The check had no warning."))
        + table(["split", "digest of images and annotations"], digests, words=(1,))
        + paragraph("Research use only; images and annotations stay under the licence of whoever published them.")
    )


def _split_words(run: RunRecord) -> str:
    scores = run.scores()
    counts = ", ".join(
        f"{word}: {scores[name]:.0f}"
        for name, word in {"images": "Images", "patients": "patients", "instances": "instances"}.items()
        if name in scores
    )
    if run.split == OUT_OF_FOLD:
        return paragraph(f"Of all folds, each image judged by the model that never saw its patient. {counts}.")
    if run.split != VAL:
        where = f"{run.split.replace('_', ' ')} split"
        return paragraph(f"Of the {where}, which was looked at once, after the training. {counts}.")
    words = (
        "Of the validation split, for there is no test split: the same images chose the best epoch and, where it is "
        f"chosen, the threshold, so these figures are better than new patients would give. {counts}."
    )
    return f'<p class="bad">{text(words)}</p>'


def _threshold(run: RunRecord, config: Mapping[str, Any]) -> str:
    if "confidence" not in run.metrics:
        return ""
    folds = any(name.startswith(f"{OUT_OF_FOLD}/") for name in run.metrics)
    told = "given in the configuration, before the training"
    if "sweep" in run.tags:
        told = "found together with the NMS overlap by a search on the validation split, after the training"
    if config.get("evaluate", {}).get("confidence") == "auto":
        told = (
            f"the one of {GRID[0]:g}, {GRID[1]:g} … {GRID[-1]:g} with the highest mean of Dice and F1 on the "
            f"{'predictions of all folds' if folds else 'validation split'}"
        )
        apart = run.split not in (VAL, OUT_OF_FOLD)
        told += f"; the {run.split.replace('_', ' ')} split had no part in it" if apart else ""
    return paragraph(f"Detections count from a score of {run.metrics['confidence']:g}: {told}.")


def _figures(files: Sequence[Path], share: int) -> str:
    shown = []
    for file in files:
        caption = FIGURES.get(file.stem, file.stem.replace("_", " "))
        shown.append(figure(embedded(file, most_bytes=share), caption))
    return f'<div class="pair">{"".join(shown)}</div>' if shown else ""


def _findings(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    """What the findings `name` of all images come to; those of one image are a patient's."""
    if not found:
        return ""
    if name in SUMMARIES:
        summary = SUMMARIES[name](found)
        rows = [(key.replace("_", " "), f"{value:.1%}" if "_rate_" in key else f"{value:g}")
                for key, value in summary.items()]  # fmt: skip
        return table(["finding", "value"], rows)
    return _nodules(found) if name == "nodules" else ""


def _nodules(found: Sequence[Mapping[str, Any]]) -> str:
    nodules = [nodule for image in found for nodule in image["nodules"]]
    lines = [f"Nodules: {len(nodules)} in {len(found)} images, at the working threshold"]
    sizes = [nodule["longest"] for nodule in nodules if nodule["longest"] is not None]
    # Images with and without a known size of their pixels may stand in one split.
    units = {image["unit"] for image in found if image["nodules"]}
    if sizes and len(units) == 1:
        middle = f"{median(sizes):.1f} {units.pop()} in the median"
        lines.append(f"Longest diameter: {middle}, from {min(sizes):.1f} to {max(sizes):.1f}")
    levels = Counter(tuple(nodule["tirads"]["level"]) for nodule in nodules if nodule["tirads"])
    rows = [(low if low == high else f"{low} to {high}", count) for (low, high), count in sorted(levels.items())]
    told = "Composition and echogenic foci are a reader's to tell: without them a level is a range."
    return bullets([*lines, told] if rows else lines) + (table(["ACR TI-RADS", "nodules"], rows) if rows else "")


def _overlays(
    folder: Path, cases: Sequence[Mapping[str, str]], config: Mapping[str, Any]
) -> dict[str, list[tuple[Path, str]]]:
    """Pictures of each kind with their captions, in order of rank."""
    dice = [float(case["dice"]) if case.get("dice") else None for case in cases]
    chosen = notable(dice, config.get("evaluate", {}).get("overlays", 0))
    found: dict[str, list[tuple[int, Path, str]]] = {kind: [] for kind in KINDS}
    for file in folder.glob("overlays/*.png"):
        named = re.match(r"(worst|median|best)_(\d+)_dice_([\d.]+)_", file.name)
        if named and int(named[2]) <= min(OF_EACH_KIND, len(chosen[named[1]])):
            index = chosen[named[1]][int(named[2]) - 1]
            found[named[1]].append((int(named[2]), file, _caption(index, cases[index])))
    return {kind: [(file, told) for _, file, told in sorted(listed)] for kind, listed in found.items() if listed}


def _caption(index: int, case: Mapping[str, str]) -> str:
    return (
        f"Case {index + 1}: Dice {float(case['dice']):.2f}; instances: {case['instances']}, "
        f"found {case['true_positives']}, missed {case['misses']}, false {case['false_positives']}"
    )


def _cases(overlays: Mapping[str, Sequence[tuple[Path, str]]], share: int) -> str:
    if not overlays:
        return ""
    told = paragraph(
        "Truth on the left, prediction at the working threshold on the right. Cases are numbered as the rows of "
        "per_case.csv among the run's artifacts; patients and files are not named here, but writing within an image "
        "is shown as it is."
    )
    parts = [told]
    for kind, shown in overlays.items():
        pictures = "".join(figure(embedded(file, most_bytes=share), caption) for file, caption in shown)
        # Failures are what a reader looks at longest: as wide as the page.
        parts.append(f'<h3>{KINDS[kind]}</h3><div class="{"" if kind == "worst" else "pair"}">{pictures}</div>')
    return "".join(parts)


def _repeat(run: RunRecord, kept: Mapping[str, Any]) -> str:
    backend = run.tags.get("backend")
    lines = [f"git checkout {run.commit.split()[0]}"] if run.commit else []
    lines.append(f"mlflow artifacts download --run-id {run.run_id} --artifact-path config.yaml --dst-path .")
    model = run.tags.get("model")
    command = f"mrcnn baselines --models {model}" if model in BASELINES else "mrcnn train"
    lines.append(("KERAS_BACKEND=jax " if backend == "jax" else "") + f"{command} --task config.yaml")
    libraries = ", ".join(f"{name} {number}" for name, number in kept.get("libraries", {}).items())
    rows = [
        ("commit", run.commit or "not a checkout"),
        ("seed", run.tags.get("seed", "")),
        ("backend", backend or ""),
        ("weights at the start", run.params.get("train.weights", "")),
        ("best trial's run", run.tags.get("best_run", "")),
        ("registered as", ", ".join(registered(run.run_id))),
        ("libraries", libraries),
    ]
    if kept:
        rows += [
            ("machine", f"{kept['processor']}, {kept['cores']} cores, {kept['memory_gib']:g} GiB"),
            ("GPU", ", ".join(kept["gpus"]) or "none"),
            ("system", f"{kept['system']}, Python {kept['python']}"),
            ("duration until this report", _duration(kept["seconds"])),
        ]
    shown = table(["", ""], [row for row in rows if row[1] != ""], words=(1,))
    return f"<pre>{text(chr(10).join(lines))}</pre>{shown}"


def _configuration(config: Mapping[str, Any]) -> str:
    if not config:
        return ""
    written = hide_credentials(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return f'<pre class="columns">{text(written)}</pre>'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + f"{minutes} min {rest} s"


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
