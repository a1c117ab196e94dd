"""Build the joint test sets: the test splits of all trainings, without images that any of the models has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.comparison.candidates import Candidate
from experiments.config.resolve import shareable
from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import check_data
from experiments.preparation.datasets import dataset_name
from experiments.preparation.seen_images import SeenImages, data_location, find_seen
from mrcnn.data import Dataset
from mrcnn.errors import InputError
from trackers.runs.reader import read_run
from trackers.runs.writer import LONGEST_DATASET_DIGEST

LEAST_PATIENTS = 5
"""Minimum for intervals and p-values: with 4 patients the smallest two-sided p of the permutation test is 1/8."""


@dataclass(frozen=True)
class TestSet:
    """Images for the comparison.

    Attributes:
        name: name in outputs.
        task: task of the trainings with this test split.
        config: configuration of the first of them, for the metric and the evaluation of volumes.
        labels: labels of the candidates with this test split.
        digest: digest of the whole test split.
        images: images that no candidate used for training or validation.
        left_out: number of the other images.
    """

    __test__ = False  # not a test class, despite its name

    name: str
    task: str
    config: TaskConfig
    labels: tuple[str, ...]
    digest: str
    images: Dataset
    left_out: int


@dataclass(frozen=True)
class Exposure:
    """The test split of a training, and the images that the training used."""

    test: Dataset
    seen: SeenImages


def exposures(candidates: Sequence[Candidate]) -> tuple[dict[str, Exposure], dict[str, str]]:
    """Read the data of each training, by label; data of several trainings are read once.

    Returns:
        The exposures, and for each model whose data are missing or changed the reason by its title. The reason can name
        files, so it does not belong on a page.
    """
    found, problems, read = {}, {}, {}
    for candidate in candidates:
        config = candidate.config
        key = (config.data.model_dump_json(), config.seed)
        try:
            if key not in read:
                read[key] = _exposure(config)
            _check_unchanged(candidate, read[key].test)
            found[candidate.label] = read[key]
        except InputError as error:
            problems[candidate.title] = str(error).splitlines()[0]
    return found, problems


def test_sets(candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]) -> tuple[list[TestSet], list[str]]:
    """Return the test splits of all candidates, each once, and a line for each without unseen images."""
    # Trainings on the same data and seed share an exposure.
    seen = list({id(each): each for each in (exposed[one.label].seen for one in candidates)}.values())
    by_digest: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        if len(exposed[candidate.label].test):
            by_digest.setdefault((candidate.config.task, exposed[candidate.label].test.digest), []).append(candidate)
    sets, notes = [], []
    for (task, digest), holders in by_digest.items():
        exposure, config = exposed[holders[0].label], holders[0].config
        where = data_location(config.data)
        unseen = np.flatnonzero(~np.any(list(find_seen(exposure.test, seen, where).values()), axis=0))
        labels = tuple(each.label for each in holders)
        name = f"{dataset_name(config.data)}, test split of {', '.join(labels)}"
        if not len(unseen):
            notes.append(f"{name}: left out, another of the models has trained or validated on all of it")
            continue
        left_out = len(exposure.test) - len(unseen)
        sets.append(TestSet(name, task, config, labels, digest, exposure.test.subset(unseen), left_out))
    return sets, notes


setattr(test_sets, "__test__", False)  # noqa: B010 not a test, despite its name


def select_comparable(
    candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]
) -> tuple[list[Candidate], list[str]]:
    """Select the candidates with enough common unseen test images; return also a line for each of the others.

    Candidates are added in order. One is excluded if it reduces the unseen patients of a task below `LEAST_PATIENTS`,
    or further if there are fewer already. So a training with another seed, which used test images of the others, does
    not remove their test set.
    """
    kept: list[Candidate] = []
    notes: list[str] = []
    patients: dict[str, int] = {}
    for candidate in candidates:
        task = candidate.config.task
        after = _unseen_patients([*kept, candidate], exposed)
        sufficient = all(after.get(each, 0) >= min(LEAST_PATIENTS, before) for each, before in patients.items())
        if sufficient and (after.get(task, 0) or not len(exposed[candidate.label].test)):
            kept.append(candidate)
            patients = after
        else:
            notes.append(
                f"left out: {candidate.title}: it and {', '.join(each.title for each in kept)} have seen too many of "
                "one another's test images; train with the same data and seed to compare them"
            )
    return kept, notes


def _unseen_patients(candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]) -> dict[str, int]:
    """Count the patients in the test sets of each task."""
    found: dict[str, set[str]] = {}
    for each in test_sets(candidates, exposed)[0]:
        found.setdefault(each.task, set()).update(record.patient_id for record in each.images.records)
    return {task: len(patients) for task, patients in found.items()}


def initial_weight_notes(candidates: Sequence[Candidate]) -> list[str]:
    """Return a line for each candidate that started from another model, whose training images are unknown."""
    return [
        f"{each.title} started from {shareable(each.config.train.weights)}: the images of that training are not "
        "excluded"
        for each in candidates
        if each.config.train.starts_from_model
    ]


def _exposure(config: TaskConfig) -> Exposure:
    checked = check_data(config)
    checked.raise_if_wrong()
    return Exposure(checked.whole.subset(checked.splits["test"]), SeenImages.of(checked, config.data))


def _check_unchanged(candidate: Candidate, test: Dataset) -> None:
    """Raise `InputError` if the test split differs from the one in the run."""
    recorded = read_run(candidate.run_id).digest("test")
    if recorded and recorded != test.digest[:LONGEST_DATASET_DIGEST]:
        raise InputError(
            f"the test split has digest {test.digest[:12]}, its run recorded {recorded[:12]}: the data have changed"
        )
