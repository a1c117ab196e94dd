"""The comparison from top to bottom: models, test sets, measuring, page, promotion. `compare` is the order of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
from mlflow import MlflowClient
from rich.console import Console

from experiments.commands.arguments import CompareArgs
from experiments.comparison.candidates import Candidate, candidates_of, named_candidates
from experiments.comparison.champions import Verdict, verdicts
from experiments.comparison.comparison import Comparison
from experiments.comparison.joint_test_set import TestSet, comparable, exposures, started_elsewhere, test_sets
from experiments.comparison.measuring import Measured, Opened, measure_all
from experiments.comparison.page import page
from experiments.comparison.paired_difference import SEED
from experiments.comparison.speed import IMAGES, seconds_per_image
from experiments.comparison.tables import print_comparison
from experiments.prediction.detector import detector_of
from experiments.preparation.datasets import standing_folder
from mrcnn.errors import InputError
from trackers.packaging.tracked_model import load_tracked_model
from trackers.registry.registry import promote
from trackers.runs.run import Run, tracked_run
from trackers.runs.serialization import json_text

PAGE, NUMBERS = "comparison.html", "comparison.json"


def compare(wanted: CompareArgs) -> None:
    """Compare, show, record, and with `promote` move the aliases.

    Raises:
        InputError: there are not two models with test images that can be had.
    """
    console = Console(highlight=False)
    if wanted.modality is not None:
        candidates, notes = candidates_of(wanted.modality)
    else:
        candidates, notes = named_candidates(wanted.models), []
    modality = wanted.modality or candidates[0].config.modality
    aliases = _aliases(candidates)
    candidates, sets, further = _test_sets(candidates, strict=bool(wanted.models))
    notes += further
    for note in notes:
        console.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)
    _enough(candidates, sets, notes)
    folder = wanted.output or standing_folder() / f"compare-{modality}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {folder}: cannot be written ({error.strerror})") from error
    with tracked_run(
        task=f"compare-{modality}", modality=modality, seed=SEED, backend=keras.backend.backend()
    ) as run, tempfile.TemporaryDirectory(prefix="medmrcnn-") as scratch:  # fmt: skip
        console.print(
            f"Comparing {', '.join(each.title for each in candidates)}; run {run.id}", markup=False, soft_wrap=True
        )
        opened = [_open(each, Path(scratch)) for each in candidates]
        measured, cannot = measure_all(opened, sets)
        decided = verdicts(candidates, sets, measured, aliases)
        comparison = Comparison(
            modality, tuple(opened), tuple(sets), measured, _seconds(opened, sets, measured), tuple(decided),
            tuple(notes + cannot),
        )  # fmt: skip
        print_comparison(comparison, console)
        _record(comparison, run, folder)
        console.print(f"\nPage: {folder / PAGE}", markup=False, soft_wrap=True)
        _settle(decided, wanted, run, console)
    console.print(f"Look at the run:  {run.how_to_open()}\n                  {run.url()}", soft_wrap=True)


def _aliases(candidates: Sequence[Candidate]) -> dict[str, dict[str, str]]:
    """Version by alias of each registered model, as they are before the work."""
    client = MlflowClient()
    return {
        name: {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
        for name in {each.name for each in candidates if each.name is not None}
    }


def _test_sets(candidates: Sequence[Candidate], *, strict: bool) -> tuple[list[Candidate], list[TestSet], list[str]]:
    """Candidates whose data are there, their test sets, and what was left out; `strict`: it is an error then."""
    exposed, problems = exposures(candidates)
    if problems and strict:
        raise InputError("\n  ".join(problems))
    kept = [each for each in candidates if each.label in exposed]
    unfit: list[str] = []
    if not strict:
        kept, unfit = comparable(kept, exposed)
    sets, notes = test_sets(kept, exposed)
    left_out = [f"left out: {problem}" for problem in problems]
    return kept, sets, [*left_out, *unfit, *notes, *started_elsewhere(kept)]


def _enough(candidates: Sequence[Candidate], sets: Sequence[TestSet], notes: Sequence[str]) -> None:
    if len(candidates) < 2:
        what = f"only {candidates[0].title}" if candidates else "no model"
        raise InputError(f"{what} can be compared; expected at least two" + "".join(f"; {note}" for note in notes))
    if not sets:
        raise InputError("no test image that none of the models has seen; expected trainings of the same data and seed")


def _open(candidate: Candidate, scratch: Path) -> Opened:
    folder = scratch / candidate.label
    kept = load_tracked_model(candidate.spec, task=candidate.config.task, folder=folder)
    size = sum(file.stat().st_size for file in folder.rglob("*.keras"))
    return Opened(candidate, detector_of(kept), size)


def _seconds(
    opened: Sequence[Opened], sets: Sequence[TestSet], measured: dict[tuple[str, int], Measured]
) -> dict[tuple[str, int], float]:
    """An image, by label and position of the test set."""
    found = {}
    for position, test_set in enumerate(sets):
        able = {each.candidate.label: each.detector.find for each in opened
                if (each.candidate.label, position) in measured}  # fmt: skip
        images = [test_set.images.image(index) for index in range(min(IMAGES, len(test_set.images)))]
        found |= {(label, position): value for label, value in seconds_per_image(able, images).items()}
    return found


def _record(comparison: Comparison, run: Run, folder: Path) -> None:
    """Writes page and numbers into `folder`, and keeps both with the run."""
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


def _settle(decided: Sequence[Verdict], wanted: CompareArgs, run: Run, console: Console) -> None:
    """Moves the aliases, or says what would be moved."""
    for verdict in decided:
        console.print(f"{verdict.name} {verdict.alias}: {verdict.reason}", markup=False, soft_wrap=True)
    moving = [each for each in decided if each.move is not None]
    if wanted.dry_run or not wanted.promote:
        if moving:
            how = "dry run" if wanted.dry_run else "--promote was not given"
            console.print(f"Nothing was moved ({how}).", markup=False, soft_wrap=True)
        return
    refused = []
    for name in dict.fromkeys(each.name for each in moving):
        refused += promote(name, [each.move for each in moving if each.name == name], run.id)
    for line in refused:
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    run.tags({"promoted": len(moving) - len(refused), "not_promoted": "; ".join(refused)})
    console.print(f"Aliases moved: {len(moving) - len(refused)}", soft_wrap=True)
