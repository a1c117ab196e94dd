"""Run a comparison: models, test sets, measurements, page, promotion."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import keras
import numpy as np
from mlflow import MlflowClient
from rich.console import Console

from experiments.commands.arguments import CompareArgs
from experiments.comparison.candidates import Candidate, find_candidates, registered_candidates
from experiments.comparison.champions import AliasDecision, decide_aliases
from experiments.comparison.comparison import Comparison
from experiments.comparison.external import evaluated_images
from experiments.comparison.joint_test_set import TestSet, exposures, initial_weight_notes, select_comparable, test_sets
from experiments.comparison.measurements import TIMED_IMAGES, LoadedModel, Measurement, measure_all, seconds_per_image
from experiments.comparison.page import page
from experiments.comparison.paired_difference import SEED
from experiments.comparison.tables import print_comparison
from experiments.prediction.detector import Detector, make_detector
from experiments.preparation.datasets import standing_folder
from experiments.terminal import Terminal, phase, print_addresses
from mrcnn.detections import Detections
from mrcnn.errors import InputError
from trackers.packaging.tracked_model import load_tracked_model
from trackers.registry.registry import promote
from trackers.runs.run import Run, tracked_run
from trackers.runs.serialization import json_text

PAGE, NUMBERS = "comparison.html", "comparison.json"


def compare(args: CompareArgs) -> Path:
    """Compare models, print and log the results, and with `promote` move the aliases.

    Returns:
        The folder of the page and its numbers.

    Raises:
        InputError: there are fewer than two models with readable test images.
    """
    console = Terminal()
    with phase(console, "Reading the runs of the models"):
        if args.modality is not None:
            candidates, notes = registered_candidates(args.modality)
        else:
            candidates, notes = find_candidates(args.models), []
    modality = args.modality or candidates[0].config.modality
    aliases = _aliases(candidates)
    with phase(console, "Reading the data of the models, and choosing the test images"):
        if candidates[0].evaluation is not None:
            sets = [evaluated_images(candidates)]
        else:
            candidates, sets, set_notes = _test_sets(candidates, console, strict=bool(args.models))
            notes += set_notes
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    _check_enough(candidates, sets, notes)
    folder = args.output or standing_folder() / f"compare-{modality}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from error
    with tracked_run(
        task=f"compare-{modality}", modality=modality, seed=SEED, backend=keras.backend.backend(),
        run_name=f"compare {len(candidates)} models of {modality}",
    ) as run, tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:  # fmt: skip
        console.print(f"Comparing {', '.join(each.title for each in candidates)}; run {run.id}", markup=False)
        with phase(console, "Loading the models"):
            models = [_load(each, Path(scratch)) for each in candidates]
        with phase(console, "Measuring the models on the test images"):
            measured, cannot = measure_all(models, sets)
            seconds = _seconds(models, sets, measured)
        decisions = decide_aliases(candidates, aliases)
        comparison = Comparison(
            modality, tuple(models), tuple(sets), measured, seconds, tuple(decisions), tuple(notes + cannot)
        )
        with phase(console, "Computing the differences, and drawing the page"):
            _record(comparison, run, folder)
        print_comparison(comparison, console)
        console.print(f"\nPage: {folder / PAGE}", markup=False)
        _apply_decisions(decisions, args, run, console)
    print_addresses(console, run)
    return folder


def _aliases(candidates: Sequence[Candidate]) -> dict[str, dict[str, str]]:
    """Return the current aliases of each registered model: name → alias → version."""
    client = MlflowClient()
    return {
        name: {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
        for name in {each.name for each in candidates if each.name is not None}
    }


def _test_sets(
    candidates: Sequence[Candidate], console: Console, *, strict: bool
) -> tuple[list[Candidate], list[TestSet], list[str]]:
    """Return the candidates with readable data, their test sets, and a line for each excluded one.

    With `strict`, unreadable data are an error and no candidate is excluded.
    """
    exposed, unreadable = exposures(candidates)
    problems = [f"{title}: its test images cannot be read again" for title in unreadable]
    reasons = [f"{problem}: {reason}" for problem, reason in zip(problems, unreadable.values(), strict=True)]
    if problems and strict:
        raise InputError("\n  ".join(reasons))
    for reason in reasons:
        console.print(reason, style="yellow", markup=False)
    kept = [each for each in candidates if each.label in exposed]
    unfit: list[str] = []
    if not strict:
        kept, unfit = select_comparable(kept, exposed)
    sets, notes = test_sets(kept, exposed)
    left_out = [f"left out: {problem}" for problem in problems]
    return kept, sets, [*left_out, *unfit, *notes, *initial_weight_notes(kept)]


def _check_enough(candidates: Sequence[Candidate], sets: Sequence[TestSet], notes: Sequence[str]) -> None:
    if len(candidates) < 2:
        what = f"only {candidates[0].title}" if candidates else "no model"
        raise InputError(f"{what} can be compared; expected at least two" + "".join(f"; {note}" for note in notes))
    if not sets:
        raise InputError("no test image that none of the models has seen; expected trainings of the same data and seed")


def _load(candidate: Candidate, scratch: Path) -> LoadedModel:
    folder = scratch / candidate.label
    tracked = load_tracked_model(candidate.spec, task=candidate.config.task, folder=folder)
    size = sum(file.stat().st_size for file in folder.rglob("*.keras"))
    return LoadedModel(candidate, make_detector(tracked), size)


def _seconds(
    models: Sequence[LoadedModel], sets: Sequence[TestSet], measured: dict[tuple[str, int], Measurement]
) -> dict[tuple[str, int], float]:
    """Measure the seconds per image by label and position of the test set."""
    found = {}
    for position, test_set in enumerate(sets):
        able = {each.candidate.label: each.detector for each in models
                if (each.candidate.label, position) in measured}  # fmt: skip
        contexts = {detector.context_slices for detector in able.values()}
        # Each image by the number of neighboring slices that a model sees.
        images = [
            {context: test_set.images.image(index, context) for context in contexts}
            for index in range(min(TIMED_IMAGES, len(test_set.images)))
        ]
        finders = {label: partial(_find_in_context, detector) for label, detector in able.items()}
        found |= {(label, position): value for label, value in seconds_per_image(finders, images).items()}
    return found


def _find_in_context(detector: Detector, images: Sequence[Mapping[int, np.ndarray]]) -> list[Detections]:
    return detector.find([image[detector.context_slices] for image in images])


def _record(comparison: Comparison, run: Run, folder: Path) -> None:
    """Write page and numbers to `folder` and log both with the run."""
    facts = comparison.facts
    try:
        (folder / PAGE).write_text(page(comparison), encoding="utf-8")
        (folder / NUMBERS).write_text(json_text(facts), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from error
    run.artifact(folder / PAGE)
    run.artifact(folder / NUMBERS)
    run.params({f"model_{each['label']}": f"{each['title']}, run {each['run']}" for each in facts["models"]})
    for number, each in enumerate(facts["test_sets"], start=1):
        run.dataset(each["name"], each["digest"], {"images": each["images"], "left_out": each["left_out"]}, "test")
        for kind in ("by_class", "any_class"):
            run.metrics({f"set_{number}/{label}/{kind}/{name}": value
                         for label, values in each[kind].items() for name, value in values.items()})  # fmt: skip
    run.metrics({f"head_to_head/{label}/{name}": value
                 for label, values in facts["head_to_head"].items() for name, value in values.items()})  # fmt: skip
    run.metrics({f"seconds_per_image/{label}/set_{position + 1}": value
                 for (label, position), value in comparison.seconds.items()})  # fmt: skip


def _apply_decisions(decisions: Sequence[AliasDecision], args: CompareArgs, run: Run, console: Console) -> None:
    """Move the aliases, or print the decisions only."""
    for each in decisions:
        console.print(f"{each.name} {each.alias} {each.reason}", markup=False)
    moving = [each for each in decisions if each.move is not None]
    if args.dry_run or not args.promote:
        if moving:
            how = "dry run" if args.dry_run else "without --promote"
            console.print(f"Nothing was moved ({how}).", markup=False)
        return
    refused = []
    for name in dict.fromkeys(each.name for each in moving):
        refused += promote(name, [each.move for each in moving if each.name == name and each.move], run.id)
    for line in refused:
        console.print(line, style="yellow", markup=False)
    run.tags({"promoted": len(moving) - len(refused), "not_promoted": "; ".join(refused)})
    console.print(f"Aliases moved: {len(moving) - len(refused)}")
