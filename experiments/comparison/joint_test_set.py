"""The images on which models are compared: test splits of their trainings, without what any of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mlflow import MlflowClient

from experiments.comparison.candidates import Candidate
from experiments.config.schema import TaskConfig
from experiments.preparation.data_check import CheckedData, check_data
from experiments.preparation.datasets import dataset_name
from mrcnn.config import NAMED_WEIGHTS
from mrcnn.data import Dataset
from mrcnn.errors import InputError
from trackers.runs.writer import LONGEST_DATASET_DIGEST

Keys = frozenset[tuple[str, ...]]

LEAST_PATIENTS = 5
"""With fewer, an interval or p-value says more of the method than of the models: of 4 patients the least two-sided p
that an exchange of answers can give is 1/8."""


@dataclass(frozen=True)
class TestSet:
    """Images to compare on.

    Attributes:
        name: what a person would call it.
        task: of the trainings that hold it back.
        config: of the first of them: how volumes are measured, by which metric.
        labels: of the candidates that hold it back.
        digest: of the whole test split.
        images: those that no candidate has trained or validated on.
        left_out: how many others there are.
    """

    __test__ = False  # no test class, whatever pytest thinks of the name

    name: str
    task: str
    config: TaskConfig
    labels: tuple[str, ...]
    digest: str
    images: Dataset
    left_out: int


@dataclass(frozen=True)
class Exposure:
    """What a training held back and what it saw."""

    test: Dataset
    test_keys: tuple[Keys, ...]
    seen: Keys


def exposures(candidates: Sequence[Candidate]) -> tuple[dict[str, Exposure], list[str]]:
    """The data of each candidate's training, by label, and a line for each whose data are not what they were.

    Data that several trainings share are read once.
    """
    found, problems, read = {}, [], {}
    for candidate in candidates:
        config = candidate.config
        key = (config.data.model_dump_json(), config.seed)
        try:
            if key not in read:
                read[key] = _exposure(config)
            _check_unchanged(candidate, read[key].test)
            found[candidate.label] = read[key]
        except InputError as error:
            first = str(error).splitlines()[0]
            problems.append(f"{candidate.title}: its test images cannot be had again: {first}")
    return found, problems


def test_sets(candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]) -> tuple[list[TestSet], list[str]]:
    """The test splits of all candidates, each once, and a line for each of which nothing unseen is left."""
    seen = frozenset().union(*(exposed[each.label].seen for each in candidates))
    by_digest: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        if len(exposed[candidate.label].test):
            by_digest.setdefault((candidate.config.task, exposed[candidate.label].test.digest), []).append(candidate)
    sets, notes = [], []
    for (task, digest), holders in by_digest.items():
        exposure, config = exposed[holders[0].label], holders[0].config
        unseen = [index for index, keys in enumerate(exposure.test_keys) if not keys & seen]
        labels = tuple(each.label for each in holders)
        name = f"{dataset_name(config.data)}, test split of {', '.join(labels)}"
        if not unseen:
            notes.append(f"{name}: left out, another of the models has trained or validated on all of it")
            continue
        left_out = len(exposure.test) - len(unseen)
        sets.append(TestSet(name, task, config, labels, digest, exposure.test.subset(unseen), left_out))
    return sets, notes


test_sets.__test__ = False


def comparable(candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]) -> tuple[list[Candidate], list[str]]:
    """Those that leave one another enough unseen test images, and a line for each of the others.

    Taken in their order: one is left out that would bring the unseen patients of a task below `LEAST_PATIENTS`, or
    further down where they are fewer. So a training with another seed, which has seen what the others hold back, does
    not take their test set away.
    """
    kept: list[Candidate] = []
    notes: list[str] = []
    patients: dict[str, int] = {}
    for candidate in candidates:
        task = candidate.config.task
        after = _unseen_patients([*kept, candidate], exposed)
        enough = all(after.get(each, 0) >= min(LEAST_PATIENTS, before) for each, before in patients.items())
        if enough and (after.get(task, 0) or not len(exposed[candidate.label].test)):
            kept.append(candidate)
            patients = after
        else:
            notes.append(
                f"left out: {candidate.title}: it and {', '.join(each.title for each in kept)} have seen too many of "
                "one another's test images; train with the same data and seed to compare them"
            )
    return kept, notes


def _unseen_patients(candidates: Sequence[Candidate], exposed: Mapping[str, Exposure]) -> dict[str, int]:
    """How many patients the test sets of each task hold."""
    found: dict[str, set[str]] = {}
    for each in test_sets(candidates, exposed)[0]:
        found.setdefault(each.task, set()).update(record.patient_id for record in each.images.records)
    return {task: len(patients) for task, patients in found.items()}


def started_elsewhere(candidates: Sequence[Candidate]) -> list[str]:
    """A line for each candidate that went on from another training, whose images nobody here knows."""
    return [
        f"{each.title} started from {each.config.train.weights}: what that was trained on is not left out"
        for each in candidates
        if each.config.train.weights not in NAMED_WEIGHTS
    ]


def _exposure(config: TaskConfig) -> Exposure:
    checked = check_data(config)
    checked.raise_if_wrong()
    keys, held_back = _keys(checked, config), set(checked.splits["test"].tolist())
    test = checked.splits["test"]
    # Thinned images of the training split count as seen: others of their patients are.
    others = [keys[index] for index in range(len(checked.whole)) if index not in held_back]
    return Exposure(checked.whole.subset(test), tuple(keys[index] for index in test), frozenset().union(*others))


def _keys(checked: CheckedData, config: TaskConfig) -> list[Keys]:
    """What makes two images the same for a training: the patient, the pixels, or being near-duplicates."""
    data = config.data
    where = data.dataset or f"{data.phantoms} phantoms {data.phantom_images} {data.phantom_seed}"
    contents = [record.content() for record in checked.whole.records]
    first_of_group: dict[int, str] = {}
    groups = np.arange(len(contents)) if checked.groups is None else checked.groups
    for group, content in zip(groups.tolist(), contents, strict=True):
        first_of_group[group] = min(content, first_of_group.get(group, content))
    return [
        frozenset({("patient", where, record.patient_id), ("pixels", content), ("alike", first_of_group[group])})
        for record, content, group in zip(checked.whole.records, contents, groups.tolist(), strict=True)
    ]


def _check_unchanged(candidate: Candidate, test: Dataset) -> None:
    """Raises `InputError` where the test split is not the one that the run recorded."""
    recorded = recorded_digest(candidate.run_id, "test")
    if recorded is not None and recorded != test.digest[:LONGEST_DATASET_DIGEST]:
        raise InputError(
            f"the test split has digest {test.digest[:12]}, its run recorded {recorded[:12]}: the data have changed"
        )


def recorded_digest(run_id: str, split: str) -> str | None:
    """The beginning of the digest of a split as the run recorded it; None where it did not."""
    for each in MlflowClient().get_run(run_id).inputs.dataset_inputs:
        if any(tag.key == "mlflow.data.context" and tag.value == split for tag in each.tags):
            return each.dataset.digest
    return None
